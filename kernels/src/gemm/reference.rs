//! The scalar reference.

use super::int8::keeps_codes;
use super::{Gemm, Precision};
use crate::quant::{Codes, CodesVisitor, Format};

/// `C = op(A) op(B)` of the operands as the precision rounds them, in f64, and for each element
/// the sum of magnitudes that the error of f32 sums is relative to: `sum |a||b|`, where a block
/// whose codes are multiplied counts `|d (q - center)| + |m|` as `|b|`.
///
/// # Safety
/// `b` must be valid for the stored B.
///
/// # Panics
/// Where `a` has not `m * k` elements.
#[must_use]
pub unsafe fn reference(gemm: &Gemm, a: &[f32], b: *const u8) -> (Vec<f64>, Vec<f64>) {
    let &Gemm { m, n, k, .. } = gemm;
    let bf16 = |x: f32| match gemm.precision {
        Precision::Bf16 if !gemm.narrow => f64::from(half::bf16::from_f32(x).to_f32()),
        _ => f64::from(x),
    };
    let codes = keeps_codes(gemm.b_format, gemm.trans_b);
    // A narrow product rounds nothing that it would not then multiply faster.
    let int8 = gemm.precision == Precision::Int8 && (codes || !gemm.narrow);
    let a: Vec<f64> = if int8 {
        a.chunks(k.max(1)).flat_map(|row| row.chunks(32)).flat_map(rounded).collect()
    } else {
        a.iter().map(|&x| bf16(x)).collect()
    };
    let row_bytes = gemm.b_format.row_bytes(if gemm.trans_b { k } else { n }).unwrap_or(0);
    // An element of B and what counts as its magnitude.
    let b_at = |p: usize, j: usize| {
        let (row, column) = if gemm.trans_b { (j, p) } else { (p, j) };
        // SAFETY: the caller vouches for B.
        unsafe {
            let row = b.add(row * row_bytes);
            let y = gemm.b_format.element(row, column);
            (
                y,
                if codes && (int8 || gemm.narrow && !gemm.trans_a) {
                    terms(gemm.b_format, row, column)
                } else {
                    f64::from(y.abs())
                },
            )
        }
    };
    let column_of_b = |j: usize| -> Vec<(f64, f64)> {
        let column = (0..k).map(|p| b_at(p, j));
        if !int8 || codes {
            return column.map(|(y, magnitude)| (bf16(y), magnitude)).collect();
        }
        let column: Vec<f32> = column.map(|(y, _)| y).collect();
        column.chunks(32).flat_map(rounded).map(|y| (y, y.abs())).collect()
    };
    let (mut c, mut size) = (vec![0.0; m * n], vec![0.0; m * n]);
    for j in 0..n {
        for (p, (y, magnitude)) in column_of_b(j).into_iter().enumerate() {
            for i in 0..m {
                let x = a[if gemm.trans_a { p * m + i } else { i * k + p }];
                c[i * n + j] += x * y;
                size[i * n + j] += x.abs() * magnitude;
            }
        }
    }
    (c, size)
}

/// A block as its int8 codes and scale give it back.
fn rounded(x: &[f32]) -> Vec<f64> {
    let largest = x.iter().fold(0f32, |most, x| most.max(x.abs()));
    if !x.iter().all(|x| x.is_finite()) {
        return vec![f64::NAN; x.len()];
    }
    let inverse = if largest < 2f32.powi(-100) { 0.0 } else { 127.0 / largest };
    let scale = f64::from(largest / 127.0);
    x.iter().map(|x| f64::from((x * inverse).round_ties_even()) * scale).collect()
}

/// `|d (q - center)| + |m|` of an element of a row.
unsafe fn terms(format: Format, row: *const u8, i: usize) -> f64 {
    struct Terms(*const u8, usize);
    impl CodesVisitor for Terms {
        type Out = f64;
        fn visit<C: Codes>(self) -> f64 {
            let Self(row, i) = self;
            // SAFETY: the caller vouches for B; blocks have no alignment to keep.
            let block = unsafe { &*row.cast::<C>().add(i / C::ELEMS) };
            let half = |bits| half::f16::from_bits(bits).to_f64();
            let part = i % C::ELEMS / 32;
            let [of_scale, of_min] = block.steps(part).map(f64::from);
            let code = f64::from(block.codes(part)[i % 32]) - f64::from(C::CENTER);
            (half(block.scale()) * of_scale * code).abs() + (half(block.min()) * of_min).abs()
        }
    }
    format.visit_codes(Terms(row, i)).unwrap_or(f64::NAN)
}
