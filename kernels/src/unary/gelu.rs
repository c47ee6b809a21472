//! The Gaussian error linear unit, exact and by tanh (Hendrycks and Gimpel, arXiv 1606.08415), and
//! their derivatives.

use super::unary_ops;
use crate::reference;
use crate::simd::Simd;
use crate::simd::math::odd::{GELU_TANH, GELU_TANH_SLOPE, NORMAL, NORMAL_SLOPE, Odd, odd};
use crate::tolerance::Tolerance;

unary_ops! {
    /// `x (1 + erf(x / sqrt(2))) / 2`. Where the sum cancels, the error is relative to `x`.
    Gelu, Tolerance::ulps(3).or_absolute(5e-7),
        |s, x| s.mul(x, above_half(s, x, &NORMAL)),
        |x| x * 0.5 * (1.0 + reference::erf(x * std::f64::consts::FRAC_1_SQRT_2));
    /// `x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2`. By an exponential, as on Vulkan, the rounded
    /// argument tells on the far negative side, where the result is near zero.
    GeluTanh, Tolerance::ulps(6).or_absolute(5e-7),
        |s, x| s.mul(x, above_half(s, x, &GELU_TANH)),
        |x| x * reference::sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x));
}

/// `1/2 + f(x)`.
#[inline(always)]
fn above_half<S: Simd, const N: usize>(s: S, x: S::F, f: &Odd<N>) -> S::F {
    s.add(odd(s, x, f), s.splat(0.5))
}

/// The derivative of [`Gelu`]: `cdf(x) + x pdf(x)` of the normal distribution.
#[inline(always)]
pub(crate) fn gelu_slope<S: Simd>(s: S, x: S::F) -> S::F {
    above_half(s, x, &NORMAL_SLOPE)
}

/// The derivative of [`GeluTanh`].
#[inline(always)]
pub(crate) fn gelu_tanh_slope<S: Simd>(s: S, x: S::F) -> S::F {
    above_half(s, x, &GELU_TANH_SLOPE)
}
