//! GGUF files: typed metadata and tensors, memory-mapped.
//!
//! Layout (versions 2 and 3, little-endian), from the GGUF specification:
//!
//! ```text
//! "GGUF"  version u32  tensor count u64  entry count u64
//! entries:  key string, type u32, value          string: length u64, UTF-8 bytes
//! tensors:  name string, rank u32, dims u64 each (innermost first), type u32, offset u64
//! padding to `general.alignment` (32), then the data; offsets count from here
//! ```
//!
//! Nothing in a file is believed: every length is checked against the bytes that are left before
//! anything of that size is made or read.

mod reader;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tenon_kernels::quant::Format;

use self::reader::Reader;
pub use self::value::{Array, Value};
use super::MappedTensor;
use super::mapped::map;
use crate::error::{Error, Result};
use crate::tensor::{DType, FileMap, MAX_RANK, Shape, TensorDesc};

/// Alignment of tensor data where `general.alignment` does not say.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Least bytes of a metadata entry: empty key, type, one byte of value.
const MIN_ENTRY: u64 = 8 + 4 + 1;
/// Least bytes of a tensor's entry: empty name, rank, type, offset.
const MIN_TENSOR: u64 = 8 + 4 + 4 + 8;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    version: u32,
    metadata: BTreeMap<String, Value>,
    map: Arc<FileMap>,
    tensors: Vec<MappedTensor>,
    by_name: HashMap<String, usize>,
}

/// The header has been read by then, and is large where it holds a vocabulary.
impl Drop for Gguf {
    fn drop(&mut self) {
        self.map.release_now(0..self.map.len());
    }
}

impl Gguf {
    /// Maps and checks the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a file that is not GGUF, is truncated or contradicts
    /// itself, or holds a tensor in a format that Tenon does not know.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let map = map(&path)?;
        let header = parse(&map, map.len()).map_err(|why| Error::format(&path, why))?;
        Ok(Self::new(path, map, header))
    }

    /// As [`Gguf::open`] of a file of which only what comes before the tensors' data must be there:
    /// they can be asked for what they are, not for their content.
    ///
    /// # Errors
    /// As there.
    pub fn open_header(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let map = map(&path)?;
        let header = parse(&map, usize::MAX).map_err(|why| Error::format(&path, why))?;
        Ok(Self::new(path, map, header))
    }

    fn new(path: PathBuf, map: Arc<FileMap>, header: Header) -> Self {
        let by_name = header.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let mapped = |t: Entry| MappedTensor::new(t.name, t.desc, map.clone(), t.range);
        let tensors = header.tensors.into_iter().map(mapped).collect();
        let (version, metadata) = (header.version, header.metadata);
        Self { path, version, metadata, tensors, by_name, map }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version of the file's layout.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata; the elements of arrays come from [`Gguf::strs`] and [`Gguf::numbers`].
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// All tensors, in the file's order.
    #[must_use]
    pub fn tensors(&self) -> &[MappedTensor] {
        &self.tensors
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&MappedTensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The text under `key`, if it is one.
    #[must_use]
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number under `key`, if it is one that fits.
    #[must_use]
    pub fn usize(&self, key: &str) -> Option<usize> {
        match *self.metadata.get(key)? {
            Value::Unsigned(n) => n.try_into().ok(),
            Value::Signed(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// The number under `key`, if it is one.
    #[must_use]
    pub fn f64(&self, key: &str) -> Option<f64> {
        self.metadata.get(key)?.number()
    }

    /// The truth value under `key`, if it is one.
    #[must_use]
    pub fn bool(&self, key: &str) -> Option<bool> {
        match *self.metadata.get(key)? {
            Value::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// The texts under `key`, if it is an array of them.
    #[must_use]
    pub fn strs(&self, key: &str) -> Option<Vec<&str>> {
        match self.metadata.get(key)? {
            Value::Array(array) => array.strs(&self.map),
            _ => None,
        }
    }

    /// The numbers under `key`, if it is an array of them.
    #[must_use]
    pub fn numbers(&self, key: &str) -> Option<Vec<f64>> {
        match self.metadata.get(key)? {
            Value::Array(array) => array.numbers(&self.map),
            _ => None,
        }
    }
}

/// A tensor's place.
#[derive(Debug)]
struct Entry {
    name: String,
    desc: TensorDesc,
    range: Range<usize>,
}

/// What the bytes before the data say.
#[derive(Debug)]
struct Header {
    version: u32,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<Entry>,
}

/// Reads and checks everything but the data of a file that has `len` bytes in all; says in words what
/// is wrong.
fn parse(file: &[u8], len: usize) -> Result<Header, String> {
    let mut r = Reader::new(file);
    if r.take(4, "magic number").ok() != Some(b"GGUF") {
        return Err("is not a GGUF file: it does not begin with `GGUF`".to_owned());
    }
    let version = read_version(&mut r)?;
    let tensor_count = read_count(&mut r, "tensors", MIN_TENSOR)?;
    let entry_count = read_count(&mut r, "metadata entries", MIN_ENTRY)?;
    let metadata = read_metadata(&mut r, entry_count)?;
    let entries = read_tensors(&mut r, tensor_count)?;
    let alignment = alignment(&metadata)?;
    let data = (r.position() as u64).next_multiple_of(alignment);
    let tensors = entries
        .into_iter()
        .map(|(name, desc, offset)| {
            let range = place(&name, &desc, offset, alignment, data, len)?;
            Ok(Entry { name, desc, range })
        })
        .collect::<Result<_, String>>()?;
    Ok(Header { version, metadata, tensors })
}

fn read_version(r: &mut Reader<'_>) -> Result<u32, String> {
    match r.u32("version")? {
        version @ (2 | 3) => Ok(version),
        version if matches!(version.swap_bytes(), 1..=3) => {
            Err("is a big-endian GGUF file; convert it to little-endian".to_owned())
        }
        version => Err(format!("has GGUF version {version}; 2 and 3 are supported")),
    }
}

/// A number of things of at least `least` bytes each.
fn read_count(r: &mut Reader<'_>, what: &str, least: u64) -> Result<u64, String> {
    let count = r.u64(what)?;
    let room = r.left() as u64 / least;
    if count > room {
        return Err(format!(
            "is truncated or damaged: claims {count} {what}, but has room for {room}; \
             download it again"
        ));
    }
    Ok(count)
}

fn read_metadata(r: &mut Reader<'_>, count: u64) -> Result<BTreeMap<String, Value>, String> {
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let key = r.string("metadata key")?.to_owned();
        let value = Value::read(r).map_err(|why| format!("{why} (under key `{key}`)"))?;
        if metadata.contains_key(&key) {
            return Err(format!("has the metadata key `{key}` twice"));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn read_tensors(r: &mut Reader<'_>, count: u64) -> Result<Vec<(String, TensorDesc, u64)>, String> {
    let mut seen = std::collections::HashSet::new();
    let mut tensors = Vec::new();
    for _ in 0..count {
        let name = r.string("tensor name")?;
        let entry = read_tensor(r);
        let (desc, offset) = entry.map_err(|why| format!("its tensor `{name}`: {why}"))?;
        if !seen.insert(name) {
            return Err(format!("has the tensor `{name}` twice"));
        }
        tensors.push((name.to_owned(), desc, offset));
    }
    Ok(tensors)
}

/// The rest of a tensor's entry after its name: description and offset.
fn read_tensor(r: &mut Reader<'_>) -> Result<(TensorDesc, u64), String> {
    let rank = r.u32("rank")? as usize;
    if rank > MAX_RANK {
        return Err(format!("has {rank} dimensions; at most {MAX_RANK} are supported"));
    }
    let mut dims = [0; MAX_RANK];
    for dim in dims[..rank].iter_mut().rev() {
        let value = r.u64("dimension")?;
        *dim = usize::try_from(value).map_err(|_| format!("has a dimension of {value}"))?;
    }
    let dtype = read_dtype(r)?;
    let desc = Shape::new(&dims[..rank]).and_then(|shape| TensorDesc::new(dtype, shape));
    let desc = desc.map_err(|e| format!("{e}; the file is damaged: download it again"))?;
    Ok((desc, r.u64("tensor offset")?))
}

fn read_dtype(r: &mut Reader<'_>) -> Result<DType, String> {
    /// `ggml_type` of plain integers.
    const I8: u32 = 24;
    const I32: u32 = 26;
    match r.u32("tensor type")? {
        I8 => Ok(DType::I8),
        I32 => Ok(DType::I32),
        id => Format::from_gguf_id(id).map(DType::from_format).ok_or_else(|| {
            let known: Vec<_> = Format::ALL.iter().map(|f| f.name()).collect();
            format!(
                "has ggml type number {id}, which is not supported; convert it to one of {}",
                known.join(", ")
            )
        }),
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, String> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        // 8 is the specification's least; above a page an alignment is a mistake.
        Some(&Value::Unsigned(n)) if n.is_power_of_two() && (8..=1 << 16).contains(&n) => Ok(n),
        Some(_) => {
            Err("has a `general.alignment` that is not a power of two from 8 to 65536".to_owned())
        }
    }
}

/// The bytes of a tensor in the file.
fn place(
    name: &str,
    desc: &TensorDesc,
    offset: u64,
    alignment: u64,
    data: u64,
    file: usize,
) -> Result<Range<usize>, String> {
    if !offset.is_multiple_of(alignment) {
        return Err(format!(
            "places tensor `{name}` at offset {offset}, not a multiple of {alignment}"
        ));
    }
    let start = data.checked_add(offset);
    let end = start.and_then(|s| s.checked_add(desc.bytes() as u64));
    match (start, end) {
        (Some(start), Some(end)) if end <= file as u64 => Ok(start as usize..end as usize),
        (_, Some(end)) => Err(format!(
            "is truncated: tensor `{name}` ends at byte {end} of {file}; download it again"
        )),
        _ => Err(format!("places tensor `{name}` beyond any file, at offset {offset}")),
    }
}
