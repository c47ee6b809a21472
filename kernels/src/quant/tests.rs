//! Every format against PyPI `gguf`, against its definition, and against its stated error.

use std::path::PathBuf;

use super::*;

/// A file that `tests/golden/make_quant.py` wrote.
fn golden(format: Format, extension: &str) -> Vec<u8> {
    read(&format!("{}.{extension}", format.name()))
}

fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/quant").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
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

fn assert_bits(got: &[f32], want: &[f32], what: &dyn std::fmt::Debug) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.to_bits(), want.to_bits(), "{what:?}, element {i}: {got} not {want}");
    }
}

/// Whether `gguf` can encode the format, so that a golden file exists.
fn has_encoder(format: Format) -> bool {
    !matches!(format, Format::Q4K | Format::Q6K)
}

#[test]
fn decodes_the_bits_of_gguf_on_every_level() {
    for &format in Format::ALL {
        let (blocks, want) = (golden(format, "blocks"), floats(&golden(format, "f32")));
        for isa in Isa::available() {
            assert_bits(&decode(format, isa, &blocks, want.len()), &want, &(format, isa.name()));
        }
        // SAFETY: as many blocks as elements.
        let reference: Vec<f32> =
            (0..want.len()).map(|i| unsafe { format.element(blocks.as_ptr(), i) }).collect();
        assert_bits(&reference, &want, &format);
    }
}

#[test]
fn encodes_the_bytes_of_gguf_on_every_level() {
    let x = floats(&read("input.f32"));
    for &format in Format::ALL.iter().filter(|&&f| has_encoder(f)) {
        let want = golden(format, "encoded");
        for isa in Isa::available() {
            assert_eq!(encode(format, isa, &x), want, "{format:?} {}", isa.name());
        }
    }
}

/// Uniform in -1..1, from a linear congruential generator.
fn uniform(seed: &mut u64) -> f32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Nearly normal with unit deviation (Irwin and Hall).
fn normal(seed: &mut u64) -> f32 {
    (0..12).map(|_| uniform(seed)).sum::<f32>() / 2.0
}

/// Blocks of several characters.
fn samples(n: usize) -> Vec<(&'static str, Vec<f32>)> {
    let mut seed = 7;
    let mut fill = |f: &dyn Fn(&mut u64) -> f32| (0..n).map(|_| f(&mut seed)).collect();
    vec![
        ("normal", fill(&normal)),
        ("uniform", fill(&uniform)),
        ("one-sided", fill(&|s| 1.5 + uniform(s))),
        ("negative", fill(&|s| -normal(s).abs())),
        ("heavy-tailed", fill(&|s| normal(s).powi(5))),
        ("smooth", (0..n).map(|i| (i as f32 * 0.37).sin()).collect()),
        ("two values", fill(&|s| uniform(s).signum())),
    ]
}

#[test]
fn stays_within_the_stated_error() {
    const N: usize = 1 << 15;
    for (what, x) in samples(N) {
        for &format in Format::ALL {
            let isa = Isa::best();
            let y = decode(format, isa, &encode(format, isa, &x), N);
            let blocks = x.chunks(format.block_elems()).zip(y.chunks(format.block_elems()));
            let worst = blocks.fold(0f32, |worst, (x, y)| {
                let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
                let error = x.iter().zip(y).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
                // Below, scales are subnormal half floats.
                if largest < 0.05 { worst } else { worst.max(error / largest) }
            });
            assert!(worst <= format.error(), "{what} in {format:?}: {worst}");
        }
    }
}

/// Root mean square error over the standard deviation of normal data.
fn normal_rms(format: Format) -> f64 {
    const N: usize = 1 << 15;
    let mut seed = 11;
    let x: Vec<f32> = (0..N).map(|_| normal(&mut seed)).collect();
    let y = decode(format, Isa::best(), &encode(format, Isa::best(), &x), N);
    let sum = |f: &dyn Fn(f32, f32) -> f32| -> f64 {
        x.iter().zip(&y).map(|(&x, &y)| f64::from(f(x, y))).sum()
    };
    (sum(&|x, y| (x - y).powi(2)) / sum(&|x, _| x * x)).sqrt()
}

#[test]
fn own_encoders_fit_normal_data_as_stated() {
    for (format, stated) in [(Format::Q4K, 0.073), (Format::Q6K, 0.0185)] {
        let rms = normal_rms(format);
        assert!(rms <= stated, "{format:?}: {rms}");
    }
    // Fewer bits than Q4_1, yet closer: what the search is for.
    assert!(normal_rms(Format::Q4K) < normal_rms(Format::Q4_1));
}

#[test]
fn encoding_what_was_decoded_is_stable() {
    let x = samples(1024).remove(0).1;
    for &format in Format::ALL.iter().filter(|f| f.is_float()) {
        let once = encode(format, Isa::best(), &x);
        let again = encode(format, Isa::best(), &decode(format, Isa::best(), &once, x.len()));
        assert_eq!(once, again, "{format:?}");
    }
}

#[test]
fn a_round_trip_is_encode_then_decode_even_in_place() {
    for &format in Format::ALL {
        for isa in Isa::available() {
            let mut x = floats(&read("input.f32"));
            let want = decode(format, isa, &encode(format, isa, &x), x.len());
            let p = x.as_mut_ptr();
            // SAFETY: the vector's elements, in place.
            unsafe { format.round_trip(isa, p, x.len(), p) };
            assert_bits(&x, &want, &(format, isa.name()));
        }
    }
}

#[test]
fn zeros_and_what_is_not_finite_are_no_trouble() {
    for &format in Format::ALL {
        let zeros = encode(format, Isa::best(), &[0.0; 256]);
        assert!(decode(format, Isa::best(), &zeros, 256).iter().all(|&x| x == 0.0), "{format:?}");
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::from_bits(1)] {
            let mut x = [1.0; 256];
            x[77] = odd;
            encode(format, Isa::best(), &x);
            encode(format, Isa::best(), &[odd; 256]);
        }
    }
}

#[test]
fn floats_of_any_number() {
    let x: Vec<f32> = (0..67).map(|i| i as f32 - 30.0).collect();
    for &format in Format::ALL.iter().filter(|f| f.is_float()) {
        for isa in Isa::available() {
            for n in 0..x.len() {
                let blocks = encode(format, isa, &x[..n]);
                assert_bits(&decode(format, isa, &blocks, n), &x[..n], &(format, isa.name(), n));
            }
        }
    }
}

#[test]
fn names_and_ids_find_their_format() {
    for &format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
        assert_eq!(Format::from_gguf_id(format.gguf_id()), Some(format));
    }
    assert_eq!(Format::from_name("q3_k"), None);
    assert_eq!(Format::from_gguf_id(4), None);
    assert_eq!(Format::Q4_0.row_bytes(64), Some(36));
    assert_eq!(Format::Q4_0.row_bytes(65), None);
    assert_eq!(Format::F32.row_bytes(usize::MAX), None);
}
