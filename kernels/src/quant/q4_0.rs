//! Q4_0: `x[i] = d * (q[i] - 8)`.
//!
//! ```text
//! byte  0 1 | 2           .. 17
//!       d   | q[16] q[0]  .. q[31] q[15]
//!       f16 | high  low nibble
//! ```

use super::bits::{
    codes, extreme, half, nibble, pack_nibbles, reciprocal, scale_nibbles, splat_half, to_half,
    unpack_nibbles,
};
use super::{BlockFormat, Codes};
use crate::simd::Simd;

/// 32 signed 4-bit codes with a scale.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Q4_0 {
    d: [u8; 2],
    q: [u8; 16],
}

// SAFETY: bytes only.
unsafe impl BlockFormat for Q4_0 {
    const ELEMS: usize = 32;
    /// The element of largest magnitude gets code 0; its opposite would need 16 and gets 15, one
    /// step of `max / 8` off. Beyond it, half precision's rounding of the scale.
    const ERROR: f32 = 1.0 / 8.0 + 1.0 / 2048.0;

    #[inline(always)]
    fn encode(x: &[f32]) -> Self {
        let d = extreme(x) / -8.0;
        Self { d: to_half(d).0, q: pack_nibbles(&codes(x, 0.0, reciprocal(d), 8.5, 15)) }
    }

    #[inline(always)]
    fn element(&self, i: usize) -> f32 {
        half(self.d) * (f32::from(nibble(&self.q, i)) - 8.0)
    }

    #[inline(always)]
    unsafe fn decode_block<S: Simd>(&self, s: S, dst: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { scale_nibbles(s, &self.q, 8.0, splat_half(s, self.d), dst) };
    }
}

impl Codes for Q4_0 {
    const BITS: usize = 7;
    const CENTER: u8 = 8;
    const HAS_MIN: bool = false;

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
        0
    }
}
