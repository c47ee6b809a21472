//! Folders of tests.

use std::path::{Path, PathBuf};

/// A new folder of a test's own, removed when dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// `test` tells it from others of this process.
    pub(super) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tenon-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn goes_when_dropped() {
    let folder = Folder::new("folder");
    std::fs::write(folder.join("file"), "text").unwrap();
    let path = folder.to_path_buf();
    drop(folder);
    assert!(!path.exists());
}
