//! AVX-512 with VNNI and BF16: the f32 operations of [`x86_avx512`](super::x86_avx512) and, beyond
//! them, the dot products of int8 and bfloat16.

use super::x86_avx512::Avx512Family;

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
unsafe impl Avx512Family for Avx512Bf16 {}
