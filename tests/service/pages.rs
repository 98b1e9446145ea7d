//! The documentation holds together.

use crate::common::pages::{self, Page};

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
