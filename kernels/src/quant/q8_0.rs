//! Q8_0: `x[i] = d * q[i]`.
//!
//! ```text
//! byte  0 1 | 2 .. 33
//!       d   | q[0] .. q[31]
//!       f16 | i8
//! ```

use super::bits::{byte, extreme, half, reciprocal, round, scale_bytes, splat_half, to_half};
use super::{BlockFormat, Codes};
use crate::simd::Simd;

/// 32 signed bytes with a scale.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Q8_0 {
    d: [u8; 2],
    q: [i8; 32],
}

/// The nearest integer, halves away from zero; |x| below 2^22.
#[inline(always)]
fn round_half_away(x: f32) -> f32 {
    // `f32::round` is a library call on the baseline of x86-64.
    let near = round(x);
    let rest = x - near;
    let up = if rest == 0.5 && x > 0.0 { 1.0 } else { 0.0 };
    let down = if rest == -0.5 && x < 0.0 { 1.0 } else { 0.0 };
    near + up - down
}

// SAFETY: bytes only.
unsafe impl BlockFormat for Q8_0 {
    const ELEMS: usize = 32;
    /// Half a step of `max / 127`, and half precision's rounding of the scale.
    const ERROR: f32 = 0.5 / 127.0 + 1.0 / 2048.0;

    #[inline(always)]
    fn encode(x: &[f32]) -> Self {
        let d = extreme(x).abs() / 127.0;
        let inverse = reciprocal(d);
        let mut q = [0; 32];
        for i in 0..32 {
            q[i] = byte(round_half_away(x[i] * inverse)).cast_signed();
        }
        Self { d: to_half(d).0, q }
    }

    #[inline(always)]
    fn element(&self, i: usize) -> f32 {
        half(self.d) * f32::from(self.q[i])
    }

    #[inline(always)]
    unsafe fn decode_block<S: Simd>(&self, s: S, dst: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { scale_bytes(s, &self.q, splat_half(s, self.d), dst) };
    }
}

impl Codes for Q8_0 {
    const BITS: usize = 8;
    const CENTER: u8 = 128;
    const HAS_MIN: bool = false;

    #[inline(always)]
    fn codes(&self, _: usize) -> [u8; 32] {
        // A loop becomes two instructions; `map` stays 32 steps.
        let mut codes = [0; 32];
        for i in 0..32 {
            codes[i] = self.q[i].cast_unsigned() ^ 0x80;
        }
        codes
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
