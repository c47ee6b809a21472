//! The rules of the house.
//!
//! A rule looks at a [`Tree`] and says what breaks it. [`RULES`] is all of them; the suite runs
//! each over the repository and over a tree that breaks it.

mod header;
mod layout;
mod source;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;

/// Text files of a repository by path, `/` between folders.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Content by path.
    pub files: BTreeMap<String, String>,
}

/// A rule: what breaks it, one line each.
pub type Check = fn(&Tree) -> Vec<String>;

/// A rule with a tree that breaks it.
pub struct Rule {
    /// What must hold.
    pub name: &'static str,
    /// Finds what breaks it.
    pub check: Check,
    /// Files which break it: path and content.
    pub broken: &'static [(&'static str, &'static str)],
}

/// Every rule.
pub const RULES: &[&[Rule]] = &[header::RULES, layout::RULES, source::RULES, tables::RULES];

impl Tree {
    /// The repository's own text files, without what git ignores.
    ///
    /// # Errors
    /// Where a folder or file cannot be read.
    pub fn read(root: &Path) -> std::io::Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, root)?;
        Ok(tree)
    }

    /// A tree of these files.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(p, c)| ((*p).to_owned(), (*c).to_owned())).collect();
        Self { files }
    }

    fn walk(&mut self, root: &Path, folder: &Path) -> std::io::Result<()> {
        const IGNORED: &[&str] = &[".git", "__pycache__", "target"];
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if IGNORED.contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                self.walk(root, &path)?;
            } else {
                let key = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                // Binary files count as empty: only their presence matters.
                let content = String::from_utf8(std::fs::read(&path)?).unwrap_or_default();
                self.files.insert(key, content);
            }
        }
        Ok(())
    }

    /// Rust files with their content.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ending(".rs")
    }

    /// Sources in all languages that are written here, with their content.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        [".rs", ".c", ".h", ".py"].into_iter().flat_map(|suffix| self.ending(suffix))
    }

    /// Files whose path ends so.
    pub fn ending(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        let files = self.files.iter().filter(move |(p, _)| p.ends_with(suffix));
        files.map(|(p, c)| (&**p, &**c))
    }

    /// One file's content, empty where it is missing.
    #[must_use]
    pub fn get(&self, path: &str) -> &str {
        self.files.get(path).map_or("", |c| c)
    }
}
