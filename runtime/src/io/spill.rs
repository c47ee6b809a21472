//! States of a run in a file instead of memory: the system writes pages out and reads them back.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use crate::error::{Error, Result};
use crate::tensor::{Storage, Tensor, TensorDesc, one_behind_another};

/// Where tensors begin in the file: at whole pages of any system, so that they are let go of apart.
const PAGE: usize = 1 << 16;

/// Zeroed tensors of the given descriptions, in a file of their own in `folder`.
///
/// The file has no name by the time this returns, where the system allows that (Unix): it goes with
/// the last tensor, however the process ends. Its blocks are all taken now, for a disk that is full
/// later could only be told of by a signal.
///
/// # Errors
/// [`Error::Io`]; [`Error::OutOfMemory`] for more bytes than there are addresses.
pub(crate) fn tensors(folder: &Path, descs: &[TensorDesc]) -> Result<Vec<Tensor>> {
    let (ranges, end) = one_behind_another(descs.iter().map(TensorDesc::bytes), PAGE)?;
    let map = Arc::new(file(folder, end.max(PAGE))?);
    let tensor = |(desc, range): (&TensorDesc, _)| {
        Tensor::new(desc.clone(), Storage::spilled(map.clone(), range)?)
    };
    descs.iter().zip(ranges).map(tensor).collect()
}

/// A mapped file of `bytes` zeros.
fn file(folder: &Path, bytes: usize) -> Result<MmapRaw> {
    let (path, mut file) = new(folder)?;
    // Before it is filled, which takes a while. Where an open file cannot be removed, it stays until
    // someone does.
    let _ = std::fs::remove_file(&path);
    let filled = fill(&mut file, bytes).and_then(|()| MmapOptions::new().len(bytes).map_raw(&file));
    filled.map_err(|error| Error::io(path, error))
}

/// A new file, by the first name that is free.
fn new(folder: &Path) -> Result<(PathBuf, File)> {
    let mut number = 0u32;
    loop {
        let path = folder.join(format!("tenon-{}-{number}.spill", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(error) => return Err(Error::io(path, error)),
        }
    }
}

fn fill(file: &mut File, bytes: usize) -> std::io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(zeros.len());
        file.write_all(&zeros[..part])?;
        left -= part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::folder::Folder;
    use super::*;

    #[test]
    fn holds_what_is_written_after_its_pages_went() {
        let folder = Folder::new("spill");
        let descs = [TensorDesc::f32(&[3]), TensorDesc::f32(&[1 << 16]), TensorDesc::f32(&[0])];
        let descs = descs.map(|desc| desc.expect("a description"));
        let made = tensors(&folder, &descs).expect("tensors");
        assert_eq!(std::fs::read_dir(&*folder).expect("a folder").count(), 0);
        for (tensor, value) in made.iter().zip([1.5f32, -2.0, 0.0]) {
            let values = vec![value; tensor.desc().numel()];
            assert_eq!(tensor.to_vec::<f32>().expect("values"), vec![0.0; values.len()]);
            let bytes = bytes_of(&values);
            tensor.storage().write(0, &bytes).expect("room");
            tensor.storage().release(0..usize::MAX);
            assert_eq!(tensor.to_vec::<f32>().expect("values"), values);
        }
        let absent = tensors(&folder.join("absent"), &descs).expect_err("no folder");
        assert!(absent.to_string().contains("absent"), "{absent}");
    }

    fn bytes_of(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }
}
