//! The documentation, as far as tests read it: pages, their code blocks, headings and links.

use std::path::{Path, PathBuf};

/// A page of Markdown.
pub struct Page {
    /// Its path from the repository's root, with `/`.
    pub name: String,
    pub text: String,
}

/// A fenced block of code.
#[derive(Debug, Clone)]
pub struct Block {
    /// What follows the opening fence.
    pub language: String,
    pub text: String,
    /// The heading that it stands under.
    pub section: String,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages at the repository's root and every page below `docs`.
pub fn all() -> Vec<Page> {
    let mut pages: Vec<Page> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].into_iter().map(Page::read).collect();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(Page::read(&path.to_string_lossy().replace('\\', "/")));
            }
        }
    }
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    pages
}

impl Page {
    pub fn read(name: &str) -> Page {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        Page { name: name.to_owned(), text }
    }

    /// The lines outside of code blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut inside = false;
        self.text.lines().filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
    }

    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut section = String::new();
        let mut open: Option<(usize, Block)> = None;
        for line in self.text.lines() {
            let fence = line.trim_start().strip_prefix("```");
            open = match (open, fence) {
                (None, None) => {
                    if let Some(heading) = heading(line) {
                        section = heading.to_owned();
                    }
                    None
                }
                (None, Some(language)) => {
                    let indent = line.len() - line.trim_start().len();
                    let (language, section) = (language.to_owned(), section.clone());
                    Some((indent, Block { language, text: String::new(), section }))
                }
                (Some((_, block)), Some(_)) => {
                    blocks.push(block);
                    None
                }
                (Some((indent, mut block)), None) => {
                    block.text.push_str(line.get(indent..).unwrap_or_default());
                    block.text.push('\n');
                    Some((indent, block))
                }
            };
        }
        assert!(open.is_none(), "{}: a code block is not closed", self.name);
        blocks
    }

    /// The code blocks below a heading, up to the next one.
    pub fn section(&self, heading: &str) -> Vec<Block> {
        let blocks: Vec<Block> =
            self.blocks().into_iter().filter(|block| block.section == heading).collect();
        assert!(!blocks.is_empty(), "{}: no code below the heading {heading:?}", self.name);
        blocks
    }

    /// What `#…` may stand behind this page in a link, as GitHub builds it from headings.
    pub fn anchors(&self) -> Vec<String> {
        let slug = |heading: &str| {
            let kept =
                heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        };
        self.prose().filter_map(heading).map(slug).collect()
    }

    /// The targets of the page's links to other files and places of the repository.
    pub fn links(&self) -> Vec<String> {
        let prose = self.prose().collect::<Vec<_>>().join("\n");
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
    }
}

fn heading(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    (title.len() < line.len()).then(|| title.strip_prefix(' ')).flatten()
}
