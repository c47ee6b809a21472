//! AVX-512 with VNNI and BF16: what [`x86_avx512_vnni`](super::x86_avx512_vnni) has and, beyond
//! it, the dot product of bfloat16.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::x86_avx512::Avx512Family;
use super::x86_avx512_vnni::dot_bytes;

/// Proof that AVX-512 VNNI and BF16 are present, with everything of
/// [`Avx512`](super::x86_avx512::Avx512).
#[derive(Clone, Copy, Debug)]
pub struct Avx512Bf16(());

impl Avx512Bf16 {
    /// The token.
    ///
    /// # Safety
    /// The processor must have AVX-512 F, BW, DQ, VL, VNNI and BF16.
    #[inline(always)]
    pub const unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

// SAFETY: the contract of `new_unchecked` names every feature of `Avx512`.
unsafe impl Avx512Family for Avx512Bf16 {
    // 28 accumulators, 2 columns and 1 broadcast of the 32 registers: measured on Zen 5.
    const GEMM_TILE: [usize; 2] = [14, 2];
    const GEMM_AHEAD: usize = 0;
    const HAS_DOT_BF16: bool = true;

    #[inline(always)]
    fn pair_bf16(self, even: __m512, odd: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do; vectors of one size.
        unsafe {
            // The conversion leaves `even` in the lower half of the vector, `odd` in the upper.
            let halves = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
            let lanes = transmute::<[u16; 32], __m512i>(INTERLEAVED);
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(lanes, halves))
        }
    }

    #[inline(always)]
    fn neighbours_bf16(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do; vectors of one size.
        unsafe { transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first)) }
    }

    #[inline(always)]
    fn dot_bf16(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do; vectors of one size.
        unsafe {
            let pairs = |v| transmute::<__m512, __m512bh>(v);
            _mm512_dpbf16_ps(sum, pairs(a), pairs(b))
        }
    }

    #[inline(always)]
    fn dot_bytes<const BITS: usize>(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do.
        unsafe { dot_bytes(a, b, sum) }
    }
}

/// 0, 16, 1, 17, …: the halves of a vector of 16-bit lanes interleaved.
const INTERLEAVED: [u16; 32] = {
    let mut lanes = [0; 32];
    let mut i = 0;
    while i < 32 {
        lanes[i] = (i as u16 >> 1) + (i as u16 & 1) * 16;
        i += 1;
    }
    lanes
};
