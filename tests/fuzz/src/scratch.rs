//! Files of this process, in memory where the system has such a place.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder of this process's own.
///
/// # Panics
/// Where it cannot be made.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = parent.join(format!("tenon-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for scratch files");
        folder
    })
}

/// Writes a file of that folder and gives its path.
///
/// # Panics
/// Where it cannot be written.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::create_dir_all(path.parent().unwrap_or(folder())).expect("a folder");
    // Never over the old file, which may still be mapped.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).expect("a scratch file");
    path
}
