//! Files that backends keep from one process to the next, by driver: what was compiled, and what the
//! checks found.
//!
//! A file is taken only whole: it begins with a mark, the driver's number, and a sum over the rest.
//! Anything else is as if there were none, and is written anew.

use std::path::PathBuf;

const MARK: &[u8; 8] = b"tenonvk1";
const HEAD: usize = 8 + 16 + 8;

/// The folder: what `TENON_CACHE` names, or the platform's for caches, in which Tenon has its own.
pub(crate) fn folder() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = |rest: &str| var("HOME").map(|home| home.join(rest));
    var("TENON_CACHE").or_else(|| {
        let platform = if cfg!(windows) {
            var("LOCALAPPDATA")
        } else if cfg!(target_vendor = "apple") {
            home("Library/Caches")
        } else {
            var("XDG_CACHE_HOME").or_else(|| home(".cache"))
        };
        Some(platform?.join("tenon"))
    })
}

/// FNV-1a of 64 bits (Fowler, Noll and Vo).
pub(crate) fn sum(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A file of one driver's.
pub(crate) struct File {
    path: Option<PathBuf>,
    driver: [u8; 16],
}

impl File {
    /// The file of this kind, of a backend.
    pub(crate) fn new(backend: &str, kind: &str, driver: [u8; 16]) -> Self {
        let name = format!("{backend}-{:032x}.{kind}", u128::from_be_bytes(driver));
        Self { path: folder().map(|folder| folder.join(name)), driver }
    }

    /// What it holds, if it is whole.
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        let mut bytes = std::fs::read(self.path.as_ref()?).ok()?;
        let head = bytes.get(..HEAD)?;
        let is_whole = head.starts_with(MARK)
            && head[8..24] == self.driver
            && head[24..] == sum(bytes[HEAD..].iter().copied()).to_le_bytes();
        is_whole.then(|| bytes.split_off(HEAD))
    }

    /// Takes it away.
    #[cfg(any(feature = "nnapi", feature = "coreml"))]
    pub(crate) fn remove(&self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Writes it, whole or not at all; where it cannot be written, there is none.
    pub(crate) fn write(&self, content: &[u8]) {
        let Some(path) = &self.path else { return };
        let bytes = [&MARK[..], &self.driver, &sum(content.iter().copied()).to_le_bytes(), content];
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = written.and_then(|()| std::fs::write(&part, bytes.concat()));
        if written.and_then(|()| std::fs::rename(&part, path)).is_err() {
            let _ = std::fs::remove_file(part);
        }
    }
}
