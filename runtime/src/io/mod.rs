//! Files: GGUF, safetensors, checkpoints.

pub mod checkpoint;
#[cfg(test)]
mod folder;
pub mod gguf;
mod mapped;
pub mod safetensors;
pub(crate) mod spill;

pub use mapped::MappedTensor;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// Reads a text of at most 64 MiB: a configuration that goes on for ever, such as a link to a device,
/// must not take all memory.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for a longer one.
pub(crate) fn text(path: &Path) -> Result<String> {
    const MOST: u64 = 64 << 20;
    let mut text = String::new();
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let read = file.take(MOST + 1).read_to_string(&mut text).map_err(|e| Error::io(path, e))?;
    if read as u64 > MOST {
        return Err(Error::format(path, "is longer than 64 MiB, as no configuration is"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::folder::Folder;
    use super::text;

    #[test]
    fn endless_texts_are_refused() {
        let folder = Folder::new("text");
        let path = folder.join("config.json");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(text(&path).unwrap(), "{}");
        // Without blocks of its own on the disk.
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(text(&path).unwrap_err().to_string().contains("64 MiB"));
    }
}
