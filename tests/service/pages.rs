//! The documentation is consistent: links, settings, versions.

use crate::common::command;
use crate::common::pages::{self, Block, Page};

#[test]
fn links_lead_to_pages_and_headings_that_exist() {
    let mut broken = Vec::new();
    for page in pages::all() {
        let folder = pages::root().join(&page.name).parent().unwrap().to_owned();
        for link in page.links() {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { pages::root().join(&page.name) } else { folder.join(path) };
            let has_anchor = || {
                let text = std::fs::read_to_string(&target).unwrap();
                Page { name: link.clone(), text }.anchors().iter().any(|known| known == anchor)
            };
            if !target.exists() || !(anchor.is_empty() || has_anchor()) {
                broken.push(format!("{}: {link}", page.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_is_listed_in_the_readme() {
    let readme = Page::read("README.md").links();
    for page in pages::all() {
        // Decisions and evidence are for those who work on the gateway.
        let for_users = !page.name.starts_with("docs/adr/") && !page.name.ends_with("evidence.md");
        let listed = page.name == "README.md" || readme.contains(&page.name);
        assert!(listed || !for_users, "README.md does not list {}", page.name);
    }
}

#[test]
fn commands_can_be_pasted() {
    for page in pages::all() {
        for block in page.blocks().iter().filter(|block| block.language == "sh") {
            for line in block.text.lines() {
                // zsh takes no comments in a line that is typed.
                let pastes = !line.contains(" # ") && !line.starts_with(['$', '#']);
                assert!(pastes, "{}, {}: {line}", page.name, block.section);
            }
        }
    }
}

#[test]
fn the_readme_asks_for_the_rust_version_of_the_manifest() {
    let manifest = std::fs::read_to_string(pages::root().join("Cargo.toml")).unwrap();
    let version = manifest.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    for page in ["README.md", "docs/technical/WINDOWS-DEPLOYMENT-GUIDE.md"] {
        let text = Page::read(page).text;
        assert!(text.contains(&format!("{version} or newer")), "{page} lacks Rust {version}");
    }
}

/// What the accounts in the pages' examples have that an example leaves out.
const ACCOUNTS: [(&str, &str); 3] = [
    ("main", "login = 1\nserver = 'S'\npassword = 'p'\nterminal.kind = 'worker'\n"),
    ("hedge", "login = 2\nserver = 'S'\npassword = 'p'\nterminal.kind = 'worker'\n"),
    ("test", "login = 3\nserver = 'S'\nterminal.kind = 'simulator'\n"),
];

/// Why `check-config` refuses an example of settings, if it does.
fn refusal(block: &Block) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let lower = block.text.to_lowercase();
    let of_example = |name: &str| {
        lower.contains(&format!("accounts.{name}")) || lower.contains(&format!("accounts__{name}"))
    };
    let defaults = ACCOUNTS.iter().filter(|(name, _)| of_example(name));
    let defaults = defaults.map(|(name, settings)| format!("[accounts.{name}]\n{settings}"));
    write("settings/default.toml", &defaults.collect::<String>());
    write("EURUSD_H1.csv", include_str!("../data/EURUSD_H1.csv"));
    // Passwords and digests are the reader's.
    let lines = block.text.lines().map(|line| match line.split_once("password_file = ") {
        Some((before, _)) => format!("{before}password = 'p'\n"),
        None => format!("{line}\n"),
    });
    let text =
        lines.collect::<String>().replace("sha256 = \"…\"", &format!("sha256 = '{:064}'", 1));
    let mut command = command(directory.path());
    if block.language == "toml" {
        write("mine.toml", &text);
        command.args(["--config", "mine.toml"]);
    } else {
        write(".env", &text);
    }
    let output = command.arg("check-config").output().unwrap();
    let refused = !output.status.success();
    refused.then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn settings_that_the_pages_show_are_accepted() {
    let mut examples = 0;
    for page in pages::all() {
        for block in page.blocks() {
            if ["toml", "ini"].contains(&block.language.as_str()) {
                examples += 1;
                let refusal = refusal(&block);
                assert_eq!(refusal, None, "{}, {}:\n{}", page.name, block.section, block.text);
            }
        }
    }
    assert!(examples > 10, "{examples}");
}
