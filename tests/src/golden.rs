//! Readers of the files under `tests/golden`, and of files fetched besides.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// A tensor of a golden file. `f64` holds every value of the types that occur exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Dimensions.
    pub dims: Vec<usize>,
    /// Kind of its elements.
    pub kind: Kind,
    /// Elements, row-major.
    pub values: Vec<f64>,
}

/// Kinds of elements that a golden file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// f16 or f32.
    Float,
    /// f64, whose answers an f32 runtime is not to be judged by.
    Double,
    /// Integers.
    Int,
    /// Truth values.
    Bool,
}

impl Array {
    /// The elements as f32.
    #[must_use]
    pub fn floats(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    /// The elements as i32.
    #[must_use]
    pub fn ints(&self) -> Vec<i32> {
        self.values.iter().map(|&v| v as i32).collect()
    }
}

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// A file under `tests/golden`.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

/// The bytes of a golden file, decompressed where its name ends in `.gz`.
///
/// # Panics
/// Where the file is missing or damaged: it is checked in.
#[must_use]
pub fn bytes(name: &str) -> Vec<u8> {
    let raw = std::fs::read(path(name)).unwrap_or_else(|e| panic!("golden/{name}: {e}"));
    if !name.ends_with(".gz") {
        return raw;
    }
    let mut out = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&raw[..]);
    decoder.read_to_end(&mut out).unwrap_or_else(|e| panic!("golden/{name}: {e}"));
    out
}

/// All tensors of a golden safetensors file.
///
/// # Panics
/// As [`bytes`].
#[must_use]
pub fn tensors(name: &str) -> BTreeMap<String, Array> {
    let bytes = bytes(name);
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("golden/{name}: {e}"));
    file.iter().map(|(key, view)| (key.to_owned(), array(&view))).collect()
}

fn array(view: &safetensors::tensor::TensorView<'_>) -> Array {
    let data = view.data();
    fn each<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|&b| read(b)).collect()
    }
    let (kind, values) = match view.dtype() {
        Dtype::F32 => (Kind::Float, each(data, |b| f64::from(f32::from_le_bytes(b)))),
        Dtype::F16 => (Kind::Float, each(data, |b| half::f16::from_le_bytes(b).to_f64())),
        Dtype::F64 => (Kind::Double, each(data, f64::from_le_bytes)),
        Dtype::I64 => (Kind::Int, each(data, |b| i64::from_le_bytes(b) as f64)),
        Dtype::I32 => (Kind::Int, each(data, |b| f64::from(i32::from_le_bytes(b)))),
        Dtype::U8 => (Kind::Int, each(data, |[b]: [u8; 1]| f64::from(b))),
        Dtype::BOOL => (Kind::Bool, each(data, |[b]: [u8; 1]| f64::from(b))),
        other => panic!("a golden file has an unexpected element type {other:?}"),
    };
    Array { dims: view.shape().to_vec(), kind, values }
}

/// The real model file that some suites need.
///
/// # Panics
/// Where it was not fetched: a suite that skips in silence judges nothing.
#[must_use]
pub fn smollm2() -> PathBuf {
    let path = std::env::var_os("TENON_SMOLLM2").map_or_else(
        || root().join("target/assets/smollm2-135m-instruct-q4_1.gguf"),
        PathBuf::from,
    );
    assert!(path.is_file(), "{} is missing: run `tests/run assets`", path.display());
    path
}

/// Digits of MNIST's test set: images of 28 by 28 from 0 to 1, one after the other, and what they show.
///
/// # Panics
/// Where they were not fetched, or are not MNIST's files.
#[must_use]
pub fn mnist(count: usize) -> (Vec<f32>, Vec<i32>) {
    const PIXELS: usize = 28 * 28;
    let read = |name: &str, head: usize, each: usize| {
        let path = root().join("target/assets/mnist").join(name);
        let bytes = std::fs::read(&path);
        let bytes =
            bytes.unwrap_or_else(|e| panic!("{}: {e}: run `tests/run assets`", path.display()));
        bytes[head..head + count * each].to_vec()
    };
    let images = read("t10k-images-idx3-ubyte", 16, PIXELS);
    let labels = read("t10k-labels-idx1-ubyte", 8, 1);
    let images = images.into_iter().map(|pixel| f32::from(pixel) / 255.0).collect();
    (images, labels.into_iter().map(i32::from).collect())
}

/// Prints a line of a suite's report.
#[expect(clippy::print_stderr, reason = "suites report counts and reasons")]
pub fn report(line: &str) {
    eprintln!("{line}");
}
