//! The file of a model's large constants, `weight.bin`, version 2.
//!
//! ```text
//! 0    u32 number of blobs, u32 2, zeros up to 64
//! 64   a blob: its metadata   u32 0xDEADBEEF, u32 type, u64 bytes, u64 where the data begins,
//!                             u64 bits at the end that hold no element, zeros up to 64
//! 128          its data, zeros up to a multiple of 64; the next blob
//! ```
//!
//! A program names a blob by where its metadata begins. Numbers are little-endian; elements of four
//! bits lie two a byte, the first in the low half.

use std::io::{Error, ErrorKind, Result, Seek, SeekFrom, Write};

use super::proto::DataType;

/// What everything is aligned to.
const ALIGN: u64 = 64;
const SENTINEL: u32 = 0xDEAD_BEEF;
const VERSION: u32 = 2;

/// Writes blobs, one after another.
#[derive(Debug)]
pub struct Weights<W> {
    to: W,
    count: u32,
    end: u64,
}

impl<W: Write + Seek> Weights<W> {
    /// An empty file at the beginning of `to`.
    ///
    /// # Errors
    /// What writing gives.
    pub fn new(to: W) -> Result<Self> {
        let mut weights = Self { to, count: 0, end: 0 };
        weights.header()?;
        weights.end = ALIGN;
        Ok(weights)
    }

    /// Adds `elements` numbers that lie in `data`; gives the place that names them.
    ///
    /// # Errors
    /// What writing gives; [`ErrorKind::InvalidInput`] for a type that no blob has.
    pub fn add(&mut self, data_type: DataType, elements: usize, data: &[u8]) -> Result<u64> {
        let (number, bits) = blob_type(data_type)?;
        let padding = data.len() * 8 - elements * bits;
        let place = self.end;
        let mut metadata = Vec::with_capacity(ALIGN as usize);
        metadata.extend(SENTINEL.to_le_bytes());
        metadata.extend(number.to_le_bytes());
        for field in [data.len() as u64, place + ALIGN, padding as u64] {
            metadata.extend(field.to_le_bytes());
        }
        metadata.resize(ALIGN as usize, 0);
        let filled = data.len() as u64;
        let zeros = vec![0; (filled.next_multiple_of(ALIGN) - filled) as usize];
        for bytes in [&metadata, data, &zeros] {
            self.to.write_all(bytes)?;
        }
        self.end += ALIGN + filled.next_multiple_of(ALIGN);
        self.count += 1;
        Ok(place)
    }

    /// Writes the number of blobs and gives back what they were written to.
    ///
    /// # Errors
    /// What writing gives.
    pub fn finish(mut self) -> Result<W> {
        self.to.seek(SeekFrom::Start(0))?;
        self.header()?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn header(&mut self) -> Result<()> {
        let mut header = [0; ALIGN as usize];
        header[..4].copy_from_slice(&self.count.to_le_bytes());
        header[4..8].copy_from_slice(&VERSION.to_le_bytes());
        self.to.write_all(&header)
    }
}

/// The number of a type in metadata, and the bits of an element.
fn blob_type(data_type: DataType) -> Result<(u32, usize)> {
    Ok(match data_type {
        DataType::Float16 => (1, 16),
        DataType::Float32 => (2, 32),
        DataType::Uint8 => (3, 8),
        DataType::Int8 => (4, 8),
        DataType::Int4 => (8, 4),
        DataType::Uint4 => (11, 4),
        DataType::Int32 => (14, 32),
        other => {
            let why = format!("weight.bin has no blobs of {other:?}");
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// The bytes that coremltools 9.0 writes for the same numbers.
    #[test]
    fn the_bytes_are_those_of_coremltools() {
        let mut weights = Weights::new(Cursor::new(Vec::new())).unwrap();
        assert_eq!(weights.add(DataType::Float16, 5, &[0, 0, 1, 0, 2, 0, 3, 0, 4, 0]).unwrap(), 64);
        assert_eq!(weights.add(DataType::Int4, 5, &[0xe8, 0x20, 0x07]).unwrap(), 192);
        let bytes = weights.finish().unwrap().into_inner();
        assert_eq!(bytes.len(), 320);
        let numbers = |at: usize| -> Vec<u8> { bytes[at..at + 32].to_vec() };
        assert_eq!(bytes[..8], [2, 0, 0, 0, 2, 0, 0, 0]);
        let metadata = |kind: u8, size: u8, data: u16, padding: u8| {
            let mut expected =
                vec![0xef, 0xbe, 0xad, 0xde, kind, 0, 0, 0, size, 0, 0, 0, 0, 0, 0, 0];
            expected.extend(data.to_le_bytes());
            expected.extend([0, 0, 0, 0, 0, 0, padding, 0, 0, 0, 0, 0, 0, 0]);
            expected
        };
        assert_eq!(numbers(64), metadata(1, 10, 128, 0));
        assert_eq!(numbers(192), metadata(8, 3, 256, 4));
        assert_eq!(bytes[256..260], [0xe8, 0x20, 0x07, 0]);
    }

    #[test]
    fn types_without_blobs_are_refused() {
        let mut weights = Weights::new(Cursor::new(Vec::new())).unwrap();
        assert!(weights.add(DataType::Bool, 1, &[1]).is_err());
    }
}
