//! Advanced SIMD with the dot product of bytes: the operations of [`arm_neon`](super::arm_neon), and
//! an int8 tile on `sdot`, of which stable Rust has no intrinsic.
//!
//! The inner loop, as [`arm_neon`](super::arm_neon) counts them; no register is spilled in it, nor
//! in the loop over blocks around it.
//!
//! | tile | multiply-adds in a turn | loads | instructions |
//! |---|---|---|---|
//! | int8, 6 rows by 2 vectors, 1 step of 4 | 12 `sdot` of 16 | 3 | 20 |
//!
//! A block of 32 is 8 turns, and some 60 instructions more to add it, scaled, to the f32 sums.

use std::arch::aarch64::*;
use std::arch::asm;

use super::arm_neon::NeonFamily;

/// Proof that the dot product of bytes is present, with everything of
/// [`Neon`](super::arm_neon::Neon).
#[derive(Clone, Copy, Debug)]
pub struct NeonDotprod(());

impl NeonDotprod {
    /// The token.
    ///
    /// # Safety
    /// The processor must have Advanced SIMD and FEAT_DotProd.
    #[inline(always)]
    pub const unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

// SAFETY: the contract of `new_unchecked` names every feature of `Neon`.
unsafe impl NeonFamily for NeonDotprod {
    // 12 sums of each kind, 2 columns and 2 registers of rows of the 32.
    const INT8_MR: usize = 6;

    #[inline(always)]
    fn dot_bytes<const BITS: usize>(
        self,
        a: float32x4_t,
        b: float32x4_t,
        sum: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe { dot_bytes(a, b, sum) }
    }

    #[inline(always)]
    unsafe fn step_bytes<const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[float32x4_t; NV]; R],
    ) {
        // Not `const`: tiles of other levels get as far as here before they are removed.
        assert!(R.is_multiple_of(2));
        // SAFETY: the caller's contract; the token exists only where its instructions do.
        unsafe {
            let mut columns = [vdupq_n_f32(0.0); NV];
            for v in 0..NV {
                columns[v] = vld1q_f32(b.add(v * 4));
            }
            for first in (0..R).step_by(4) {
                let rows = if first + 4 <= R {
                    vld1q_f32(a.add(first))
                } else {
                    vcombine_f32(vld1_f32(a.add(first)), vdup_n_f32(0.0))
                };
                for r in first..R.min(first + 4) {
                    for v in 0..NV {
                        sums[r][v] = dot_bytes_of_row(columns[v], rows, r % 4, sums[r][v]);
                    }
                }
            }
        }
    }
}

/// `sdot`, four lanes by four.
#[inline]
#[target_feature(enable = "dotprod")]
pub(super) fn dot_bytes(a: float32x4_t, b: float32x4_t, mut sum: float32x4_t) -> float32x4_t {
    // SAFETY: an instruction of this function's features, on registers alone.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// `sdot`, four columns by one lane of `rows`.
#[inline]
#[target_feature(enable = "dotprod")]
fn dot_bytes_of_row(
    columns: float32x4_t,
    rows: float32x4_t,
    row: usize,
    mut sum: float32x4_t,
) -> float32x4_t {
    macro_rules! by_lane {
        ($lane:literal) => {
            // SAFETY: an instruction of this function's features, on registers alone.
            unsafe {
                asm!(
                    concat!("sdot {sum:v}.4s, {columns:v}.16b, {rows:v}.4b[", $lane, "]"),
                    sum = inout(vreg) sum, columns = in(vreg) columns, rows = in(vreg) rows,
                    options(pure, nomem, nostack, preserves_flags)
                )
            }
        };
    }
    // Known when the loops over rows are unrolled.
    match row {
        0 => by_lane!(0),
        1 => by_lane!(1),
        2 => by_lane!(2),
        _ => by_lane!(3),
    }
    sum
}
