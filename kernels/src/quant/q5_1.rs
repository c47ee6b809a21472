//! Q5_1: `x[i] = d * q[i] + m`.
//!
//! ```text
//! byte  0 1 | 2 3 | 4 .. 7                 | 8           .. 23
//!       d   | m   | bit 4 of q[0] .. q[31] | q[16] q[0]  .. q[31] q[15]
//!       f16 | f16 | u32, q[i]'s in bit i   | high  low nibble
//! ```

use super::BlockFormat;
use super::bits::{
    affine_bytes, codes, five_bits, half, pack_fifth_bits, pack_nibbles, range, reciprocal,
    splat_half, to_half, unpack_five_bits,
};
use crate::simd::Simd;

/// 32 unsigned 5-bit codes with a scale and a minimum.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Q5_1 {
    d: [u8; 2],
    m: [u8; 2],
    fifth: [u8; 4],
    q: [u8; 16],
}

// SAFETY: bytes only.
unsafe impl BlockFormat for Q5_1 {
    const ELEMS: usize = 32;
    /// As for Q4_1, with steps of `(max - min) / 31`.
    const ERROR: f32 = 1.0 / 31.0 + 3.0 / 2048.0;

    #[inline(always)]
    fn encode(x: &[f32]) -> Self {
        let (lo, hi) = range(x);
        let d = (hi - lo) / 31.0;
        let q = codes(x, lo, reciprocal(d), 0.5, 31);
        Self { d: to_half(d).0, m: to_half(lo).0, fifth: pack_fifth_bits(&q), q: pack_nibbles(&q) }
    }

    #[inline(always)]
    fn element(&self, i: usize) -> f32 {
        half(self.d) * f32::from(five_bits(self.fifth, &self.q, i)) + half(self.m)
    }

    #[inline(always)]
    unsafe fn decode_block<S: Simd>(&self, s: S, dst: *mut f32) {
        let q = unpack_five_bits(self.fifth, &self.q);
        // SAFETY: the caller's contract.
        unsafe { affine_bytes(s, &q, splat_half(s, self.d), splat_half(s, self.m), dst) };
    }
}
