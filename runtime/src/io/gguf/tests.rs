//! Handmade files, good and hostile.

use proptest::prelude::*;

use super::super::folder::Folder;
use super::*;

/// Writes a GGUF file piece by piece.
#[derive(Clone, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn header(version: u32, tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }

    fn u32(mut self, x: u32) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn u64(mut self, x: u64) -> Self {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn string(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    fn entry(self, key: &str, kind: u32) -> Self {
        self.string(key).u32(kind)
    }

    fn tensor(self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let w = self.string(name).u32(dims.len() as u32);
        dims.iter().fold(w, |w, &d| w.u64(d)).u32(kind).u64(offset)
    }

    fn pad(mut self, alignment: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(alignment), 0);
        self
    }
}

const STR: u32 = 8;
const ARRAY: u32 = 9;

/// One entry of every kind, two tensors.
fn good() -> Writer {
    Writer::header(3, 2, 6)
        .entry("general.architecture", STR)
        .string("llama")
        .entry("n", 4)
        .u32(7)
        .entry("minus", 5)
        .u32(-3i32 as u32)
        .entry("eps", 6)
        .u32(0.5f32.to_bits())
        .entry("words", ARRAY)
        .u32(STR)
        .u64(2)
        .string("ab")
        .string("")
        .entry("flags", ARRAY)
        .u32(7)
        .u64(2)
        .bytes(&[1, 0])
        .tensor("a", &[2, 3], 0, 0)
        .tensor("b", &[32, 1], 3, 32)
        .pad(32)
        .bytes(&[1; 32])
        .bytes(&[2; 20])
}

fn error(bytes: &[u8]) -> String {
    parse(bytes, bytes.len()).unwrap_err()
}

#[track_caller]
fn assert_error(Writer(bytes): Writer, want: &str) {
    let e = error(&bytes);
    assert!(e.contains(want), "`{e}` does not say `{want}`");
}

#[test]
fn reads_a_good_file() {
    let folder = Folder::new("gguf");
    let path = folder.join("good.gguf");
    // Tensor `a` has 24 bytes, `b` 20 at offset 32.
    std::fs::write(&path, good().0).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    drop(folder);
    assert_eq!(gguf.version(), 3);
    assert_eq!(gguf.str("general.architecture"), Some("llama"));
    assert_eq!((gguf.usize("n"), gguf.f64("n"), gguf.str("n")), (Some(7), Some(7.0), None));
    assert_eq!((gguf.usize("minus"), gguf.f64("minus")), (None, Some(-3.0)));
    assert_eq!(gguf.f64("eps"), Some(0.5));
    assert_eq!(gguf.strs("words"), Some(vec!["ab", ""]));
    assert_eq!((gguf.strs("flags"), gguf.numbers("words")), (None, None));
    let a = gguf.tensor("a").unwrap();
    assert_eq!(
        (&a.desc.shape()[..], a.desc.dtype(), a.bytes()),
        (&[3, 2][..], DType::F32, &[1; 24][..])
    );
    let b = gguf.tensor("b").unwrap().tensor().unwrap();
    assert_eq!(b.desc().dtype(), DType::Quant(Format::Q4_1));
    assert_eq!(b.storage().len(), 20);
    assert!(gguf.tensor("c").is_none());
}

#[test]
fn refuses_every_truncation() {
    let whole = good().0;
    for len in 0..whole.len() {
        let e = error(&whole[..len]);
        assert!(e.contains("truncated") || e.contains("room") || e.contains("GGUF"), "{len}: {e}");
    }
}

#[test]
fn refuses_what_is_not_this_gguf() {
    assert_error(Writer(b"ggml....".to_vec()), "not a GGUF file");
    assert_error(Writer::header(1, 0, 0), "version 1");
    assert_error(Writer::header(3u32.swap_bytes(), 0, 0), "big-endian");
}

#[test]
fn refuses_absurd_counts() {
    assert_error(Writer::header(3, u64::MAX, 0), "tensors, but has room for 0");
    assert_error(Writer::header(3, 0, 1 << 60).u64(0), "metadata entries");
    let array = |count| Writer::header(3, 0, 1).entry("k", ARRAY).u32(10).u64(count).u64(0);
    assert_error(array(u64::MAX), "claims an array");
    assert_error(array(2), "room for 1");
    assert_error(Writer::header(3, 0, 1).u64(u64::MAX).bytes(&[0; 16]), "truncated or damaged");
}

#[test]
fn refuses_odd_metadata() {
    let one = || Writer::header(3, 0, 1);
    assert_error(one().entry("k", 13).u64(0), "unknown type number 13");
    assert_error(one().entry("k", 7).bytes(&[2]), "truth value of 2");
    assert_error(one().u64(1).bytes(&[0xff]).bytes(&[0; 5]), "not UTF-8");
    let nested = one().entry("k", ARRAY).u32(ARRAY).u64(1).u32(0).u64(0);
    assert_error(nested, "array inside an array");
    let twice = Writer::header(3, 0, 2).entry("k", 0).bytes(&[1]).entry("k", 0).bytes(&[1]);
    assert_error(twice, "`k` twice");
    for alignment in [0, 7, 24, 1 << 20] {
        let w = one().entry("general.alignment", 4).u32(alignment);
        assert_error(w, "general.alignment");
    }
}

#[test]
fn refuses_odd_tensors() {
    let one = |dims: &[u64], kind, offset| {
        Writer::header(3, 1, 0).tensor("t", dims, kind, offset).pad(32).bytes(&[0; 64])
    };
    let whole = one(&[16], 0, 0).0;
    assert!(parse(&whole, whole.len()).is_ok());
    assert_error(one(&[17], 0, 0), "truncated: tensor `t`");
    assert_error(one(&[16], 0, 32), "truncated: tensor `t`");
    assert_error(one(&[1], 0, 8), "not a multiple of 32");
    assert_error(one(&[1], 0, u64::MAX - 31), "beyond any file");
    assert_error(one(&[u64::MAX, u64::MAX], 0, 0), "tensor `t`");
    assert_error(one(&[1 << 33, 1 << 33], 0, 0), "more elements than memory");
    assert_error(one(&[31], 2, 0), "blocks of 32");
    assert_error(one(&[1], 10, 0), "ggml type number 10");
    assert_error(one(&[1; 9], 0, 0), "9 dimensions");
    let twice = Writer::header(3, 2, 0).tensor("t", &[1], 0, 0).tensor("t", &[1], 0, 0);
    assert_error(twice.pad(32).bytes(&[0; 32]), "`t` twice");
}

#[test]
fn keeps_to_the_alignment_that_the_file_states() {
    let file = |pad| {
        Writer::header(2, 1, 1)
            .entry("general.alignment", 4)
            .u32(64)
            .tensor("t", &[1], 0, 0)
            .pad(pad)
            .bytes(&[9; 4])
    };
    let bytes = file(64).0;
    let header = parse(&bytes, bytes.len()).unwrap();
    assert_eq!(bytes[header.tensors[0].range.clone()], [9; 4]);
}

proptest! {
    /// Whatever bytes change, reading ends with an error or with tensors inside the file.
    #[test]
    fn survives_mutation(changes in prop::collection::vec((0usize..256, any::<u8>()), 1..8)) {
        let mut bytes = good().0;
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(header) = parse(&bytes, bytes.len()) {
            for tensor in header.tensors {
                prop_assert!(tensor.range.end <= bytes.len());
                prop_assert_eq!(tensor.range.len(), tensor.desc.bytes());
            }
            for value in header.metadata.values() {
                if let Value::Array(array) = value {
                    let strs = array.strs(&bytes).map(|s| s.len());
                    prop_assert!(strs.is_none_or(|n| n == array.len()));
                }
            }
        }
    }
}
