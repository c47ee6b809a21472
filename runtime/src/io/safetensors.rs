//! safetensors files and folders: tensors, memory-mapped.
//!
//! The `safetensors` crate checks the header (size, JSON, overlap, bounds); what is ours is the
//! mapping, the types, and the index that spreads a model over several files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use safetensors::{Dtype, SafeTensors as Header};
use serde::Deserialize;

use super::MappedTensor;
use super::mapped::map;
use super::text;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, TensorDesc};

/// Name of a model's only file.
const SINGLE: &str = "model.safetensors";
/// Name of the index of a model of several files.
const INDEX: &str = "model.safetensors.index.json";

/// Open safetensors: one file, or all files of an index.
#[derive(Debug)]
pub struct SafeTensors {
    path: PathBuf,
    tensors: Vec<MappedTensor>,
    by_name: HashMap<String, usize>,
    unsupported: Vec<(String, String)>,
}

/// An index file.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, PathBuf>,
}

impl SafeTensors {
    /// Maps and checks `path`: a `.safetensors` file, an index (`.json`), or a folder that holds
    /// `model.safetensors` or `model.safetensors.index.json`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a damaged file, or an index that names a tensor its file
    /// lacks or a file outside its folder.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let path = if path.is_dir() { in_folder(&path)? } else { path };
        let is_index = path.extension().is_some_and(|e| e == "json");
        let mut open = Self {
            path: path.clone(),
            tensors: Vec::new(),
            by_name: HashMap::new(),
            unsupported: Vec::new(),
        };
        if is_index {
            open.add_index(&path)?;
        } else {
            open.add_file(&path)?;
        }
        Ok(open)
    }

    /// The file or index.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors of supported types.
    #[must_use]
    pub fn tensors(&self) -> &[MappedTensor] {
        &self.tensors
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&MappedTensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// Name and type of tensors that Tenon has no type for (such as I64 position tables).
    #[must_use]
    pub fn unsupported(&self) -> &[(String, String)] {
        &self.unsupported
    }

    fn add_index(&mut self, path: &Path) -> Result<()> {
        let text = text(path)?;
        let index: Index =
            serde_json::from_str(&text).map_err(|e| Error::format(path, e.to_string()))?;
        let mut files: Vec<_> = index.weight_map.values().collect();
        files.sort_unstable();
        files.dedup();
        for file in files {
            let plain = matches!(file.components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
            if !plain {
                let why = format!("names {}, which is not in its folder", file.display());
                return Err(Error::format(path, why));
            }
            self.add_file(&path.with_file_name(file))?;
        }
        let found = |name: &str| {
            self.by_name.contains_key(name) || self.unsupported.iter().any(|(n, _)| n == name)
        };
        match index.weight_map.iter().find(|(name, _)| !found(name)) {
            None => Ok(()),
            Some((name, file)) => {
                let why = format!("tensor `{name}` is not in {}", file.display());
                Err(Error::format(path, why))
            }
        }
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let map = map(path)?;
        let fail = |why: String| Error::format(path, why);
        let damaged = |e: safetensors::SafeTensorError| {
            fail(format!("is not a whole safetensors file ({e}); download it again"))
        };
        let header = Header::deserialize(&map).map_err(damaged)?;
        let mut views = header.iter().collect::<Vec<_>>();
        views.sort_by_key(|(_, view)| view.data().as_ptr().addr());
        for (name, view) in views {
            let Some(dtype) = dtype(view.dtype()) else {
                self.unsupported.push((name.to_owned(), format!("{:?}", view.dtype())));
                continue;
            };
            let desc = Shape::new(view.shape())
                .and_then(|shape| TensorDesc::new(dtype, shape))
                .map_err(|e| fail(format!("tensor `{name}`: {e}")))?;
            let start = view.data().as_ptr().addr() - map.as_ptr().addr();
            let range = start..start + view.data().len();
            if self.by_name.insert(name.to_owned(), self.tensors.len()).is_some() {
                return Err(fail(format!("tensor `{name}` is in another file of the index too")));
            }
            self.tensors.push(MappedTensor::new(name.to_owned(), desc, map.clone(), range));
        }
        Ok(())
    }
}

/// The model in a folder.
fn in_folder(folder: &Path) -> Result<PathBuf> {
    [SINGLE, INDEX].map(|name| folder.join(name)).into_iter().find(|p| p.is_file()).ok_or_else(
        || Error::format(folder, format!("holds neither {SINGLE} nor {INDEX}; name a file")),
    )
}

fn dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::I8 => Some(DType::I8),
        Dtype::I32 => Some(DType::I32),
        Dtype::U8 => Some(DType::U8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::Folder;
    use super::*;

    /// A file of the given header and as many data bytes, `0, 1, 2, ...`.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend((0..data).map(|i| i as u8));
        bytes
    }

    /// A folder with these files.
    fn folder(test: &str, files: &[(&str, &[u8])]) -> Folder {
        let folder = Folder::new(&format!("safetensors-{test}"));
        for (name, bytes) in files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        folder
    }

    const A: &str = r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    const B: &str = r#"{"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},
        "c":{"dtype":"I64","shape":[1],"data_offsets":[3,11]}}"#;
    const BOTH: &str = r#"{"metadata":{},"weight_map":{"a":"1.safetensors","b":"2.safetensors",
        "c":"2.safetensors"}}"#;

    #[test]
    fn reads_one_file_even_where_it_is_not_aligned() {
        for spaces in 0..8 {
            let bytes = file(&format!("{A}{}", " ".repeat(spaces)), 8);
            let folder = folder(&format!("one{spaces}"), &[(SINGLE, &bytes)]);
            let open = SafeTensors::open(&*folder).unwrap();
            let a = open.tensor("a").unwrap();
            assert_eq!(&a.desc.shape()[..], [1, 2]);
            assert_eq!(a.bytes(), (0..8).collect::<Vec<u8>>());
            let want = [[0, 1, 2, 3], [4, 5, 6, 7]].map(f32::from_le_bytes);
            assert_eq!(a.tensor().unwrap().to_vec::<f32>().unwrap(), want);
        }
    }

    #[test]
    fn reads_an_index() {
        let (a, b) = (file(A, 8), file(B, 11));
        let files: &[(&str, &[u8])] =
            &[("1.safetensors", &a), ("2.safetensors", &b), (INDEX, BOTH.as_bytes())];
        let folder = folder("index", files);
        let open = SafeTensors::open(&*folder).unwrap();
        assert_eq!(open.tensors().len(), 2);
        assert_eq!(open.tensor("b").unwrap().tensor().unwrap().to_vec::<u8>().unwrap(), [0, 1, 2]);
        assert_eq!(open.unsupported(), [("c".to_owned(), "I64".to_owned())]);
    }

    fn error(test: &str, files: &[(&str, &[u8])]) -> String {
        let folder = folder(test, files);
        SafeTensors::open(&*folder).unwrap_err().to_string()
    }

    #[test]
    fn refuses_a_wrong_index() {
        let (a, b) = (file(A, 8), file(B, 11));
        let outside = BOTH.replace("1.safetensors", "../1.safetensors");
        let e = error("outside", &[(INDEX, outside.as_bytes())]);
        assert!(e.contains("not in its folder"), "{e}");
        let more = BOTH.replace(r#""a":"#, r#""other":"1.safetensors","a":"#);
        let files: &[(&str, &[u8])] =
            &[("1.safetensors", &a), ("2.safetensors", &b), (INDEX, more.as_bytes())];
        let e = error("missing", files);
        assert!(e.contains("`other` is not in 1.safetensors"), "{e}");
        let twice: &[(&str, &[u8])] =
            &[("1.safetensors", &a), ("2.safetensors", &a), (INDEX, BOTH.as_bytes())];
        let e = error("twice", twice);
        assert!(e.contains("another file"), "{e}");
        assert!(error("json", &[(INDEX, b"{}")]).contains("weight_map"));
        assert!(error("empty", &[]).contains("neither"));
    }

    #[test]
    fn refuses_damage() {
        let whole = file(A, 8);
        for len in 0..whole.len() {
            let e = error(&format!("cut{len}"), &[(SINGLE, &whole[..len])]);
            assert!(e.contains("download it again"), "{e}");
        }
        let mut long = whole.clone();
        long[..8].fill(0xff);
        assert!(error("long", &[(SINGLE, &long)]).contains("not a whole safetensors file"));
        let big = A.replace("[1,2]", "[4611686018427387905,2]");
        assert!(!error("overflow", &[(SINGLE, &file(&big, 8))]).is_empty());
    }
}
