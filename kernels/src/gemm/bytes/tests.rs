//! The product's bits against its reference, on every level.

use super::*;

fn bytes(len: usize, seed: usize) -> Vec<i8> {
    (0..len).map(|i| ((i + seed).wrapping_mul(0x9e37_79b1) >> 7) as i8).collect()
}

fn floats(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i + seed) * 7919 % 1009) as f32 / 504.0 - 1.0).collect()
}

struct Operands {
    a: Vec<i8>,
    b: Vec<i8>,
    scale_a: Vec<f32>,
    scale_b: Vec<f32>,
    bias: Vec<f32>,
}

/// Compares all of C, which lies between guards.
fn check(isa: Isa, [m, n, k]: [usize; 3], trans_b: bool, with: &Operands) {
    let Operands { a, b, scale_a, scale_b, bias } = with;
    let product = Bytes::new(isa, [m, n, k], trans_b);
    let mut c = vec![f32::NAN; m * n + 1];
    let mut shared = vec![f32::NAN; product.shared_len()];
    let mut scratch = vec![f32::NAN; product.scratch_len()];
    let bias_at = if bias.is_empty() { std::ptr::null() } else { bias.as_ptr() };
    let right = Right { b: b.as_ptr(), scales: Scales::new(scale_b), bias: bias_at };
    let (shared, scratch) = (shared.as_mut_ptr(), scratch.as_mut_ptr());
    // SAFETY: all buffers have the sizes that the product asks for; one task at a time.
    unsafe {
        for task in 0..product.pack_tasks() {
            product.pack(task, a.as_ptr(), Scales::new(scale_a), shared);
        }
        for task in 0..product.tasks() {
            product.run(task, shared, right, c.as_mut_ptr(), scratch);
        }
    }
    assert!(c.pop().unwrap().is_nan(), "wrote past C");
    let want = reference([m, n, k], a, b, trans_b, [scale_a, scale_b], bias);
    let same = c.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits() || a == b);
    assert!(same, "{m} {n} {k} {trans_b} on {}", isa.name());
}

#[test]
fn every_level_gives_the_reference_bits() {
    for isa in Isa::available() {
        for n in 1..=70 {
            let size @ [m, n, k] = [n * 11 % 23 + 1, n, n * 41 % 71];
            let of = |each: bool, len: usize| if each { len } else { 1 };
            for trans_b in [false, true] {
                let with = Operands {
                    a: bytes(m * k, 1),
                    b: bytes(n * k, 2),
                    scale_a: floats(of(n % 2 == 0, m), 3),
                    scale_b: floats(of(n % 3 > 0, n), 4),
                    bias: floats(if n % 5 < 2 { n } else { 0 }, 5),
                };
                check(isa, size, trans_b, &with);
            }
        }
        // More than one slab, more than one block of rows, columns of several tasks.
        for size in [[5, 40, 2600], [3, 33, 7683], [270, 17, 61], [3, 1100, 32], [0, 4, 4]] {
            let [m, n, k] = size;
            for trans_b in [false, true] {
                let with = Operands {
                    a: bytes(m * k, 6),
                    b: bytes(n * k, 7),
                    scale_a: floats(m.max(1), 8),
                    scale_b: floats(n, 9),
                    bias: floats(n, 10),
                };
                check(isa, size, trans_b, &with);
            }
        }
    }
}

#[test]
fn the_largest_sums_stay_exact() {
    let k = Bytes::MOST_K;
    for isa in Isa::available() {
        for (a, b) in [(-128, -128), (-128, 127), (127, -128)] {
            let with = Operands {
                a: vec![a; 2 * k],
                b: vec![b; 2 * k],
                scale_a: vec![1.0],
                scale_b: vec![1.0],
                bias: vec![],
            };
            check(isa, [2, 2, k], true, &with);
        }
    }
}
