//! A power with one exponent for all elements.

use super::UnaryOp;
use crate::simd::{Simd, math};
use crate::tolerance::Tolerance;

/// `x^exponent` of IEEE 754 `pow`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PowScalar {
    /// The exponent.
    pub(super) exponent: f32,
}

impl UnaryOp for PowScalar {
    const TOLERANCE: Tolerance = Tolerance::ulps(8);
    #[inline(always)]
    fn eval<S: Simd>(self, s: S, x: S::F) -> S::F {
        math::pow(s, x, s.splat(self.exponent))
    }
    fn reference(self, x: f64) -> f64 {
        x.powf(f64::from(self.exponent))
    }
}
