//! The scalar reference.

use super::{Gemm, Precision};

/// `C = op(A) op(B)` and `sum |a||b|` for each element, in f64.
///
/// # Safety
/// `b` must be valid for the stored B.
///
/// # Panics
/// Where `a` has not `m * k` elements.
#[must_use]
pub unsafe fn reference(gemm: &Gemm, a: &[f32], b: *const u8) -> (Vec<f64>, Vec<f64>) {
    let &Gemm { m, n, k, .. } = gemm;
    let round = |x: f32| match gemm.precision {
        Precision::F32 => f64::from(x),
        Precision::Bf16 => f64::from(half::bf16::from_f32(x).to_f32()),
    };
    let row_bytes = gemm.b_format.row_bytes(if gemm.trans_b { k } else { n }).unwrap_or(0);
    let b_at = |p: usize, j: usize| {
        let (row, column) = if gemm.trans_b { (j, p) } else { (p, j) };
        // SAFETY: the caller vouches for B.
        round(unsafe { gemm.b_format.element(b.add(row * row_bytes), column) })
    };
    let (mut c, mut size) = (vec![0.0; m * n], vec![0.0; m * n]);
    for i in 0..m {
        for j in 0..n {
            for p in 0..k {
                let x = round(if gemm.trans_a { a[p * m + i] } else { a[i * k + p] });
                let y = b_at(p, j);
                c[i * n + j] += x * y;
                size[i * n + j] += (x * y).abs();
            }
        }
    }
    (c, size)
}
