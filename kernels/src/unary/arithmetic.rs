//! What a few instructions compute.

use super::{UnaryOp, unary_ops};
use crate::simd::Simd;
use crate::tolerance::Tolerance;

unary_ops! {
    /// `-x`.
    Neg, Tolerance::EXACT, |s, x| s.neg(x), |x| -x;
    /// `|x|`.
    Abs, Tolerance::EXACT, |s, x| s.abs(x), |x| x.abs();
    /// `x^2`.
    Square, Tolerance::EXACT, |s, x| s.mul(x, x), |x| x * x;
    /// `1 / x`.
    Recip, Tolerance::EXACT, |s, x| s.div(s.splat(1.0), x), |x| 1.0 / x;
    /// Square root.
    Sqrt, Tolerance::EXACT, |s, x| s.sqrt(x), |x| x.sqrt();
    /// `1 / sqrt(x)`.
    Rsqrt, Tolerance::ulps(2), |s, x| s.div(s.splat(1.0), s.sqrt(x)), |x| 1.0 / x.sqrt();
}

/// `mul * x + add`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    /// The factor.
    pub(super) mul: f32,
    /// The summand.
    pub(super) add: f32,
}

impl UnaryOp for Affine {
    // Relative to the summands, which may cancel: the absolute part holds for |add| up to 1.
    const TOLERANCE: Tolerance = Tolerance::ulps(1).or_absolute(1e-7);
    #[inline(always)]
    fn eval<S: Simd>(self, s: S, x: S::F) -> S::F {
        s.fma(x, s.splat(self.mul), s.splat(self.add))
    }
    fn reference(self, x: f64) -> f64 {
        f64::from(self.mul) * x + f64::from(self.add)
    }
}

/// `x` limited to `lo..=hi`; NaN stays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clamp {
    /// The lower limit.
    pub(super) lo: f32,
    /// The upper limit; not below `lo`.
    pub(super) hi: f32,
}

impl UnaryOp for Clamp {
    const TOLERANCE: Tolerance = Tolerance::EXACT;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S, x: S::F) -> S::F {
        s.min(s.splat(self.hi), s.max(s.splat(self.lo), x))
    }
    fn reference(self, x: f64) -> f64 {
        if x.is_nan() { x } else { x.max(f64::from(self.lo)).min(f64::from(self.hi)) }
    }
}
