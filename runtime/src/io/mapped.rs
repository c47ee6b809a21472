//! Tensors that lie in memory-mapped files.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use tenon_kernels::quant::Format;

use crate::error::{Error, Result};
use crate::tensor::{FileMap, Storage, SystemAllocator, Tensor, TensorDesc};

/// Bytes below which a tensor is copied: whoever reads a mapped one makes so many around it resident
/// (Linux's fault-around), which for a model's 61 norms was 8 MB more than they hold.
const SMALL: usize = 64 << 10;

/// A tensor of a file, described and not yet read.
#[derive(Clone, Debug)]
pub struct MappedTensor {
    /// The name in the file.
    pub name: String,
    /// Type and shape, outermost dimension first.
    pub desc: TensorDesc,
    map: Arc<FileMap>,
    range: Range<usize>,
}

impl MappedTensor {
    /// `range` must be as long as the described bytes, and lie in `map` if they are ever asked for.
    pub(super) fn new(
        name: String,
        desc: TensorDesc,
        map: Arc<FileMap>,
        range: Range<usize>,
    ) -> Self {
        debug_assert!(range.len() == desc.bytes());
        Self { name, desc, map, range }
    }

    /// The bytes, in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }

    /// Where the bytes lie in the file.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The tensor. It shares the mapping, unless its elements lie unaligned in the file (which
    /// safetensors allows) or it is small: then it is a copy, read-only as well.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] for that copy.
    pub fn tensor(&self) -> Result<Tensor> {
        let align = self.desc.dtype().format().map_or(4, Format::align);
        let aligned = self.bytes().as_ptr().addr().is_multiple_of(align);
        let storage = if aligned && self.range.len() >= SMALL {
            Storage::mapped(self.map.clone(), self.range.clone())?
        } else {
            Storage::copied(self.bytes(), &SystemAllocator)?.read_only()
        };
        Tensor::new(self.desc.clone(), storage)
    }
}

/// Maps a whole file for reading.
///
/// Pages are read when first touched and belong to the system's cache, not to this process. A file
/// that another process shortens while it is mapped ends this one by a signal, as with any mapping;
/// replace such files by renaming.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn map(path: &Path) -> Result<Arc<FileMap>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    // SAFETY: the map is read-only and private to us; that nobody rewrites a model file in use is
    // the documented condition of mapping it.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
    Ok(Arc::new(FileMap::new(map)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::folder::Folder;
    use super::*;

    #[test]
    fn what_is_let_go_of_is_read_again() {
        let folder = Folder::new("mapped");
        let path = folder.join("file");
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        File::create(&path).and_then(|mut file| file.write_all(&bytes)).expect("a file");
        let mapped = map(&path).expect("a map");
        let storage = Storage::mapped(mapped, 1000..150_000).expect("in range");
        for range in [0..usize::MAX, 5000..90_000, 7..7, 200_000..300_000] {
            storage.release(range);
            // SAFETY: nobody writes a read-only map.
            assert_eq!(unsafe { storage.bytes() }.unwrap(), &bytes[1000..150_000]);
        }
    }
}
