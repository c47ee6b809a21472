//! Every format against PyPI `gguf`, against its definition, and against its stated error.

use std::path::PathBuf;

use super::*;
use crate::random::Philox;

/// A file that `tests/golden/make_quant.py` wrote.
fn golden(name: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/quant").join(name);
    std::fs::read(path).ok()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn decode(format: Format, isa: Isa, src: &[u8], n: usize) -> Vec<f32> {
    assert_eq!(format.row_bytes(n), Some(src.len()));
    let mut out = vec![0.0; n];
    // SAFETY: as many blocks as elements; allocations are aligned to more than a float.
    unsafe { format.decode(isa, src.as_ptr(), n, out.as_mut_ptr()) };
    out
}

fn encode(format: Format, isa: Isa, x: &[f32]) -> Vec<u8> {
    let mut out = vec![0; format.row_bytes(x.len()).unwrap()];
    // SAFETY: as many blocks as elements; allocations are aligned to more than a float.
    unsafe { format.encode(isa, x.as_ptr(), x.len(), out.as_mut_ptr()) };
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
