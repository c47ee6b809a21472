//! Q5_0: `x[i] = d * (q[i] - 16)`.
//!
//! ```text
//! byte  0 1 | 2 .. 5                 | 6           .. 21
//!       d   | bit 4 of q[0] .. q[31] | q[16] q[0]  .. q[31] q[15]
//!       f16 | u32, q[i]'s in bit i   | high  low nibble
//! ```

use super::BlockFormat;
use super::bits::{
    codes, extreme, five_bits, half, pack_fifth_bits, pack_nibbles, reciprocal, scale_bytes,
    splat_half, to_half, unpack_five_bits,
};
use crate::simd::Simd;

/// 32 signed 5-bit codes with a scale.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Q5_0 {
    d: [u8; 2],
    fifth: [u8; 4],
    q: [u8; 16],
}

// SAFETY: bytes only.
unsafe impl BlockFormat for Q5_0 {
    const ELEMS: usize = 32;
    /// As for Q4_0, with steps of `max / 16`.
    const ERROR: f32 = 1.0 / 16.0 + 1.0 / 2048.0;

    #[inline(always)]
    fn encode(x: &[f32]) -> Self {
        let d = extreme(x) / -16.0;
        let q = codes(x, 0.0, reciprocal(d), 16.5, 31);
        Self { d: to_half(d).0, fifth: pack_fifth_bits(&q), q: pack_nibbles(&q) }
    }

    #[inline(always)]
    fn element(&self, i: usize) -> f32 {
        half(self.d) * (f32::from(five_bits(self.fifth, &self.q, i)) - 16.0)
    }

    #[inline(always)]
    unsafe fn decode_block<S: Simd>(&self, s: S, dst: *mut f32) {
        let q = unpack_five_bits(self.fifth, &self.q).map(|q| q as i8 - 16);
        // SAFETY: the caller's contract.
        unsafe { scale_bytes(s, &q, splat_half(s, self.d), dst) };
    }
}
