//! Advanced SIMD with the matrix products of bytes and of bfloat16: what
//! [`arm_neon_dotprod`](super::arm_neon_dotprod) has and, beyond it, register tiles on `smmla` and
//! `bfmmla`.
//!
//! Both instructions multiply two rows by two columns, of eight bytes or four bfloat16 each, and
//! add to a register of four sums: twice the products of `sdot` and `bfdot`. So two rows of a
//! packed panel lie side by side ([`Simd::STEP_ROWS`](crate::simd::Simd::STEP_ROWS)), and a
//! register holds a block of 2 x 2 sums until
//! [`Simd::turn_sums`](crate::simd::Simd::turn_sums) makes rows of them.
//!
//! `bfmmla` rounds as no IEEE operation does, unless a system sets FPCR.EBF, which none is known to:
//! the sum of two products, then its sum with the accumulator, each to odd, with subnormals taken
//! and left as zeros. Rounding to odd is off by less than 2^-23 of the result, twice the error to
//! nearest, but there are half as many additions to a sum, so that the bound of
//! [`gemm`](crate::gemm), `(k + 2) * 2^-24 * sum |a||b|`, holds as it is.
//!
//! The inner loops, as [`arm_neon`](super::arm_neon) counts them; no register is spilled in them.
//!
//! | tile | multiply-adds in a turn | loads | instructions |
//! |---|---|---|---|
//! | int8, 6 rows by 2 vectors, a block of 32 with its scales | 48 `smmla` of 32 | 20 | 137 |
//! | bfloat16, 8 rows by 3 vectors, 1 step of 4 | 24 `bfmmla` of 16 | 5 | 33 |

use std::arch::aarch64::*;
use std::arch::asm;

use super::arm_neon::NeonFamily;
use super::arm_neon_dotprod::dot_bytes;

/// Proof that the matrix products are present, with everything of
/// [`NeonDotprod`](super::arm_neon_dotprod::NeonDotprod).
#[derive(Clone, Copy, Debug)]
pub struct NeonMmla(());

impl NeonMmla {
    /// The token.
    ///
    /// # Safety
    /// The processor must have Advanced SIMD, FEAT_DotProd, FEAT_I8MM and FEAT_BF16.
    #[inline(always)]
    pub const unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

/// `NV` vectors of columns and half as many blocks of rows, each of which `$multiply` multiplies.
macro_rules! blocks_step {
    ($a:ident, $b:ident, $sums:ident, $multiply:ident) => {{
        // Not `const`: tiles of other levels get as far as here before they are removed.
        assert!(R.is_multiple_of(2));
        let mut rows = [vdupq_n_f32(0.0); R];
        for r in (0..R).step_by(2) {
            rows[r] = vld1q_f32($a.add(r * 2));
        }
        for v in 0..NV {
            // Columns 0 and 1 of a vector, then 2 and 3.
            for half in 0..2 {
                let columns = vld1q_f32($b.add(v * 8 + half * 4));
                for r in (0..R).step_by(2) {
                    $sums[r + half][v] = $multiply(rows[r], columns, $sums[r + half][v]);
                }
            }
        }
    }};
}

// SAFETY: the contract of `new_unchecked` names every feature of `Neon`.
unsafe impl NeonFamily for NeonMmla {
    // 12 sums of each kind, 3 registers of rows and one of columns of the 32.
    const INT8_MR: usize = 6;
    const HAS_DOT_BF16: bool = true;
    const STEP_ROWS: usize = 2;

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
    fn bf16_bits(self, v: float32x4_t) -> uint16x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe { bf16_bits(v) }
    }

    #[inline(always)]
    unsafe fn step_bytes<const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[float32x4_t; NV]; R],
    ) {
        // SAFETY: the caller's contract; the token exists only where its instructions do.
        unsafe { blocks_step!(a, b, sums, multiply_bytes) }
    }

    #[inline(always)]
    unsafe fn step_bf16<const R: usize, const NV: usize>(
        self,
        a: *const f32,
        b: *const f32,
        sums: &mut [[float32x4_t; NV]; R],
    ) {
        // SAFETY: the caller's contract; the token exists only where its instructions do.
        unsafe { blocks_step!(a, b, sums, multiply_bf16) }
    }
}

/// `bfcvtn`: to nearest even; NaN stays NaN.
#[inline]
#[target_feature(enable = "bf16")]
pub(super) fn bf16_bits(v: float32x4_t) -> uint16x4_t {
    let bits;
    // SAFETY: an instruction of this function's features, on registers alone.
    unsafe {
        asm!(
            "bfcvtn {bits:v}.4h, {v:v}.4s",
            bits = lateout(vreg) bits, v = in(vreg) v,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    bits
}

/// `smmla`.
#[inline]
#[target_feature(enable = "i8mm")]
fn multiply_bytes(rows: float32x4_t, columns: float32x4_t, mut sums: float32x4_t) -> float32x4_t {
    // SAFETY: an instruction of this function's features, on registers alone.
    unsafe {
        asm!(
            "smmla {sums:v}.4s, {rows:v}.16b, {columns:v}.16b",
            sums = inout(vreg) sums, rows = in(vreg) rows, columns = in(vreg) columns,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// `bfmmla`.
#[inline]
#[target_feature(enable = "bf16")]
fn multiply_bf16(rows: float32x4_t, columns: float32x4_t, mut sums: float32x4_t) -> float32x4_t {
    // SAFETY: an instruction of this function's features, on registers alone.
    unsafe {
        asm!(
            "bfmmla {sums:v}.4s, {rows:v}.8h, {columns:v}.8h",
            sums = inout(vreg) sums, rows = in(vreg) rows, columns = in(vreg) columns,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}
