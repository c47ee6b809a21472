//! Q4_1: `x[i] = d * q[i] + m`.
//!
//! ```text
//! byte  0 1 | 2 3 | 4           .. 19
//!       d   | m   | q[16] q[0]  .. q[31] q[15]
//!       f16 | f16 | high  low nibble
//! ```

use super::bits::{
    codes, half, nibble, pack_nibbles, range, reciprocal, splat_half, to_half, unpack_nibbles,
};
use super::{BlockFormat, Codes};
use crate::simd::Simd;

/// 32 unsigned 4-bit codes with a scale and a minimum.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Q4_1 {
    d: [u8; 2],
    m: [u8; 2],
    q: [u8; 16],
}

// SAFETY: bytes only.
unsafe impl BlockFormat for Q4_1 {
    const ELEMS: usize = 32;
    /// Half a step of `(max - min) / 15`, at most `2 / 15` of the largest magnitude, and half
    /// precision's rounding of scale and minimum.
    const ERROR: f32 = 1.0 / 15.0 + 3.0 / 2048.0;

    #[inline(always)]
    fn encode(x: &[f32]) -> Self {
        let (lo, hi) = range(x);
        let d = (hi - lo) / 15.0;
        let q = pack_nibbles(&codes(x, lo, reciprocal(d), 0.5, 15));
        Self { d: to_half(d).0, m: to_half(lo).0, q }
    }

    #[inline(always)]
    fn element(&self, i: usize) -> f32 {
        half(self.d) * f32::from(nibble(&self.q, i)) + half(self.m)
    }

    #[inline(always)]
    unsafe fn decode_block<S: Simd>(&self, s: S, dst: *mut f32) {
        let (d, m) = (splat_half(s, self.d), splat_half(s, self.m));
        for i in (0..16).step_by(S::LANES) {
            // SAFETY: `LANES` divides 16; the caller's contract.
            unsafe {
                let packed = self.q.as_ptr().add(i);
                s.store(dst.add(i), s.fma(s.load_low_nibbles(packed), d, m));
                s.store(dst.add(i + 16), s.fma(s.load_high_nibbles(packed), d, m));
            }
        }
    }
}

impl Codes for Q4_1 {
    const BITS: usize = 7;
    const CENTER: u8 = 0;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn codes(&self, _: usize) -> [u8; 32] {
        unpack_nibbles(&self.q)
    }

    #[inline(always)]
    fn scale(&self) -> u16 {
        u16::from_le_bytes(self.d)
    }

    #[inline(always)]
    fn min(&self) -> u16 {
        u16::from_le_bytes(self.m)
    }
}
