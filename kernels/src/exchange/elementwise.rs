//! The operations of [`Stream`](super::Stream).

use super::StreamOp;
use crate::simd::Simd;

/// The f32 of some bits.
fn float(bits: u32) -> f32 {
    f32::from_bits(bits)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct AddScaled {
    pub(super) weight: f32,
}

impl StreamOp for AddScaled {
    const READS: bool = true;

    #[inline(always)]
    fn eval<S: Simd>(self, s: S, y: S::F, x: S::F) -> S::F {
        s.add(y, s.mul(x, s.splat(self.weight)))
    }

    fn reference(self, y: u32, x: u32) -> u32 {
        (float(y) + float(x) * self.weight).to_bits()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Mean;

impl StreamOp for Mean {
    const READS: bool = true;

    #[inline(always)]
    fn eval<S: Simd>(self, s: S, y: S::F, x: S::F) -> S::F {
        s.select(s.eq(x, s.zero()), s.zero(), s.div(y, x))
    }

    fn reference(self, y: u32, x: u32) -> u32 {
        if float(x) == 0.0 { 0 } else { (float(y) / float(x)).to_bits() }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ToFixed {
    pub(super) factor: f32,
    pub(super) limit: f32,
}

impl StreamOp for ToFixed {
    const READS: bool = false;

    #[inline(always)]
    fn eval<S: Simd>(self, s: S, _: S::F, x: S::F) -> S::F {
        let cut = s.min(s.mul(x, s.splat(self.factor)), s.splat(self.limit));
        let cut = s.max(cut, s.splat(-self.limit));
        s.round_i32(s.select(s.eq(x, x), cut, s.zero()))
    }

    fn reference(self, _: u32, x: u32) -> u32 {
        let x = float(x) * self.factor;
        let cut = if x.is_nan() { 0.0 } else { x.clamp(-self.limit, self.limit) };
        (cut.round_ties_even() as i32).cast_unsigned()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FromFixed {
    pub(super) factor: f32,
}

impl StreamOp for FromFixed {
    const READS: bool = false;

    #[inline(always)]
    fn eval<S: Simd>(self, s: S, _: S::F, x: S::F) -> S::F {
        s.mul(s.convert_i32(x), s.splat(self.factor))
    }

    fn reference(self, _: u32, x: u32) -> u32 {
        (x.cast_signed() as f32 * self.factor).to_bits()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct AddWords;

impl StreamOp for AddWords {
    const READS: bool = true;

    #[inline(always)]
    fn eval<S: Simd>(self, s: S, y: S::F, x: S::F) -> S::F {
        s.add_i32(y, x)
    }

    fn reference(self, y: u32, x: u32) -> u32 {
        y.wrapping_add(x)
    }
}
