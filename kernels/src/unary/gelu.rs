//! The Gaussian error linear unit, exact and by tanh (Hendrycks and Gimpel, arXiv 1606.08415), and
//! their derivatives.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

use super::unary_ops;
use crate::reference;
use crate::simd::{Simd, math};
use crate::tolerance::Tolerance;

/// `2 sqrt(2/pi)`: twice tanh's inner factor, because tanh is taken by the sigmoid.
const INNER: f32 = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
/// The cubic coefficient of the tanh form.
const CUBIC: f32 = 0.044_715;

unary_ops! {
    /// `x (1 + erf(x / sqrt(2))) / 2`. Where the sum cancels, the error is relative to `x`.
    Gelu, Tolerance::ulps(3).or_absolute(5e-7),
        |s, x| s.mul(x, math::normal_cdf(s, x)),
        |x| x * 0.5 * (1.0 + reference::erf(x * std::f64::consts::FRAC_1_SQRT_2));
    /// `x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2`. The rounded argument of the exponential
    /// tells most on the far negative side, where the result is near zero.
    GeluTanh, Tolerance::ulps(6).or_absolute(5e-7),
        |s, x| s.mul(x, math::sigmoid(s, gelu_tanh_argument(s, x))),
        |x| x * reference::sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x));
}

/// `2 sqrt(2/pi) (x + 0.044715 x^3)`.
#[inline(always)]
fn gelu_tanh_argument<S: Simd>(s: S, x: S::F) -> S::F {
    let cubic = s.fma(s.mul(x, x), s.splat(INNER * CUBIC), s.splat(INNER));
    s.mul(x, cubic)
}

/// `x` bounded to where the slopes vary; beyond, infinity times zero must not appear.
#[inline(always)]
fn saturate<S: Simd>(s: S, x: S::F) -> S::F {
    s.max(s.splat(-15.0), s.min(s.splat(15.0), x))
}

/// The derivative of [`Gelu`]: `cdf(x) + x pdf(x)` of the normal distribution.
#[inline(always)]
pub(crate) fn gelu_slope<S: Simd>(s: S, x: S::F) -> S::F {
    let x = saturate(s, x);
    let gauss = math::exp2_below(s, s.mul(s.mul(x, x), s.splat(-0.5 * LOG2_E)));
    let pdf = s.mul(gauss, s.splat(0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2));
    s.fma(x, pdf, math::normal_cdf(s, x))
}

/// The derivative of [`GeluTanh`]: `g + x g (1 - g) u'` with `g` the sigmoid of `u(x)`.
#[inline(always)]
pub(crate) fn gelu_tanh_slope<S: Simd>(s: S, x: S::F) -> S::F {
    let x = saturate(s, x);
    let (gate, spread) = math::sigmoid_and_slope(s, gelu_tanh_argument(s, x));
    let inner = s.fma(s.mul(x, x), s.splat(3.0 * INNER * CUBIC), s.splat(INNER));
    s.fma(s.mul(x, spread), inner, gate)
}
