//! AVX-512 with VNNI: the operations of [`x86_avx512`](super::x86_avx512), and the dot product of
//! bytes in one instruction.

use std::arch::x86_64::*;

use super::x86_avx512::Avx512Family;

/// Proof that AVX-512 VNNI is present, with everything of
/// [`Avx512`](super::x86_avx512::Avx512).
#[derive(Clone, Copy, Debug)]
pub struct Avx512Vnni(());

impl Avx512Vnni {
    /// The token.
    ///
    /// # Safety
    /// The processor must have AVX-512 F, BW, DQ, VL and VNNI.
    #[inline(always)]
    pub const unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

// SAFETY: the contract of `new_unchecked` names every feature of `Avx512`.
unsafe impl Avx512Family for Avx512Vnni {
    #[inline(always)]
    fn dot_bytes<const BITS: usize>(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: the token exists only where its instructions do.
        unsafe { dot_bytes(a, b, sum) }
    }
}

/// [`Simd::dot_bytes`](crate::simd::Simd::dot_bytes) of any bits.
#[inline]
#[target_feature(enable = "avx512vnni")]
pub(super) fn dot_bytes(a: __m512, b: __m512, sum: __m512) -> __m512 {
    let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
    _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), a, b))
}
