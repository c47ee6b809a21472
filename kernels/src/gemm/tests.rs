//! Parity of every level, layout and format with the reference.

use super::int8::keeps_codes;
use super::{Caches, Epilogue, Gemm, Precision, reference};
use crate::isa::Isa;
use crate::quant::Format;
use crate::unary::Unary;

pub(super) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Runs all tasks of a product as one thread would.
pub(super) fn run(gemm: &Gemm, a: &[f32], b: &[u8], c: &mut [f32], epilogue: Epilogue) {
    let mut shared = vec![f32::NAN; gemm.shared_len()];
    let mut scratch = vec![f32::NAN; gemm.scratch_len()];
    // SAFETY: the buffers have the sizes the product asks for.
    unsafe {
        for task in 0..gemm.pack_tasks() {
            gemm.pack(task, a.as_ptr(), shared.as_mut_ptr());
        }
        // Backwards: tasks must not lean on each other.
        for task in (0..gemm.tasks()).rev() {
            let (left, scratch) = (gemm.left(a.as_ptr(), shared.as_ptr()), scratch.as_mut_ptr());
            gemm.run(task, left, b.as_ptr(), c.as_mut_ptr(), epilogue, scratch);
        }
    }
}

pub(super) fn check(gemm: &Gemm, accumulate: bool, with_bias: bool) {
    let &Gemm { m, n, k, b_format: format, .. } = gemm;
    let a = noise(m * k, 1);
    let floats = noise(n * k, 2);
    let (rows, columns) = if gemm.trans_b { (n, k) } else { (k, n) };
    let row_bytes = format.row_bytes(columns).unwrap();
    // A Vec<f32> behind the bytes keeps float formats aligned.
    let mut backing = vec![0f32; (rows * row_bytes).div_ceil(4) + 1];
    let b = backing.as_mut_ptr().cast::<u8>();
    for r in 0..rows {
        // SAFETY: row `r` of both.
        unsafe {
            let (from, to) = (floats.as_ptr().add(r * columns), b.add(r * row_bytes));
            format.encode(Isa::PORTABLE, from, columns, to);
        }
    }
    // SAFETY: just encoded.
    let (b, (exact, size)) =
        unsafe { (std::slice::from_raw_parts(b, rows * row_bytes), reference(gemm, &a, b)) };
    let bias = noise(n, 3);
    let before = noise(m * n, 4);
    let mut c = before.clone();
    let pointer = if with_bias { bias.as_ptr() } else { std::ptr::null() };
    let activation = (accumulate && with_bias).then_some(Unary::Relu);
    run(gemm, &a, b, &mut c, Epilogue { accumulate, bias: pointer, activation });
    for i in 0..m * n {
        let mut want = exact[i];
        want += if accumulate { f64::from(before[i]) } else { 0.0 };
        want += if with_bias { f64::from(bias[i % n]) } else { 0.0 };
        want = activation.map_or(want, |op| op.reference(want));
        let blocks = gemm.precision == Precision::Int8
            && (!gemm.narrow || keeps_codes(gemm.b_format, gemm.trans_b));
        let additions = if blocks { k / 16 } else { k };
        let bound = (additions + 4) as f64 * 2f64.powi(-24) * (size[i] + 2.0);
        let error = (f64::from(c[i]) - want).abs();
        assert!(error <= bound, "{gemm:?}: {} is not {want} (element {i})", c[i]);
    }
}

#[test]
fn f32_of_every_layout_and_odd_size() {
    for isa in Isa::available() {
        let sizes = [[1, 1, 1], [3, 5, 7], [14, 32, 16], [15, 33, 17], [1, 70, 300], [70, 1, 257]];
        let more =
            [[64, 8, 96], [8, 96, 64], [61, 200, 513], [600, 40, 20], [2, 3, 0], [200, 13, 70]];
        for size in sizes.into_iter().chain(more) {
            for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
                let gemm = Gemm::new(isa, size, trans_a, Format::F32, trans_b);
                check(&gemm, size[0] % 2 == 0, size[1] % 2 == 1);
            }
        }
    }
}

#[test]
fn every_size_from_1_to_70() {
    for isa in Isa::available() {
        for n in 1..=70 {
            // Both multipliers are coprime to 71: each size takes every value once.
            let size = [n * 7 % 71, n, n * 30 % 71];
            let layout = n % 4;
            let gemm = Gemm::new(isa, size, layout & 1 != 0, Format::F32, layout & 2 != 0);
            check(&gemm, n % 3 == 0, n % 5 == 0);
            check(&gemm.with_precision(Precision::Bf16), n % 5 == 0, n % 3 == 0);
        }
    }
}

/// A task's bits depend on its operands alone, so any number of threads gives the same.
#[test]
fn tasks_give_the_same_bits_in_any_order() {
    let sizes = [[40, 300, 520], [150, 8, 520]];
    for (isa, [m, n, k]) in Isa::available().flat_map(|isa| sizes.map(|size| (isa, size))) {
        let gemm = Gemm::new(isa, [m, n, k], false, Format::F32, true);
        let (a, b) = (noise(m * k, 1), noise(n * k, 2));
        // SAFETY: the same memory as bytes.
        let b = unsafe { std::slice::from_raw_parts(b.as_ptr().cast(), b.len() * 4) };
        let (mut backwards, mut shuffled) = (vec![0.0; m * n], vec![0.0; m * n]);
        run(&gemm, &a, b, &mut backwards, Epilogue::NONE);
        let mut shared = vec![0.0; gemm.shared_len()];
        // SAFETY: the buffers have the sizes the product asks for.
        unsafe {
            for task in (0..gemm.pack_tasks()).rev() {
                gemm.pack(task, a.as_ptr(), shared.as_mut_ptr());
            }
            // Fresh scratch, and an order in which no neighbours follow each other.
            let tasks = gemm.tasks();
            for task in (0..tasks).step_by(2).chain((1..tasks).step_by(2)) {
                let mut scratch = vec![f32::NAN; gemm.scratch_len()];
                let (c, scratch) = (shuffled.as_mut_ptr(), scratch.as_mut_ptr());
                let left = gemm.left(a.as_ptr(), shared.as_ptr());
                gemm.run(task, left, b.as_ptr(), c, Epilogue::NONE, scratch);
            }
        }
        assert!(gemm.tasks() > 3 && backwards.iter().eq(&shuffled));
    }
}

#[test]
fn other_caches_give_the_same_bits() {
    let (a, b) = (noise(1000 * 1100, 1), noise(300 * 1100, 2));
    // SAFETY: the same memory as bytes.
    let b = unsafe { std::slice::from_raw_parts(b.as_ptr().cast(), b.len() * 4) };
    for isa in Isa::available() {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let gemm = Gemm::new(isa, [1000, 300, 1100], false, Format::F32, true)
                .with_precision(precision);
            let of = |caches| {
                let gemm = gemm.with_caches(caches);
                let mut c = vec![0.0; gemm.m * gemm.n];
                run(&gemm, &a, b, &mut c, Epilogue::NONE);
                (gemm.tasks(), c)
            };
            let small = of(Caches { l2: 64 << 10, l3: 0 });
            let large = of(Caches { l2: 2 << 20, l3: 32 << 20 });
            assert!(small.0 > large.0 && small.1 == large.1, "{gemm:?}");
        }
    }
}

#[test]
fn every_format_both_ways() {
    for isa in Isa::available() {
        for &format in Format::ALL {
            check(&Gemm::new(isa, [9, 40, 512], false, format, true), false, true);
            check(&Gemm::new(isa, [9, 512, 40], false, format, false), true, false);
            check(&Gemm::new(isa, [17, 768, 3], true, format, false), false, false);
        }
    }
}

#[test]
fn bf16_rounds_both_operands() {
    for isa in Isa::available() {
        for (format, trans_b) in [(Format::F32, true), (Format::F32, false), (Format::Q4_1, true)] {
            let gemm = Gemm::new(isa, [30, 64, 320], false, format, trans_b);
            check(&gemm.with_precision(Precision::Bf16), false, false);
        }
    }
}
