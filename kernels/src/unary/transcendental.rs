//! The elementary functions of [`math`].

use super::unary_ops;
use crate::reference;
use crate::simd::math;
use crate::tolerance::Tolerance;

unary_ops! {
    /// `e^x`.
    Exp, Tolerance::ulps(1), |s, x| math::exp(s, x), |x| x.exp();
    /// Natural logarithm.
    Log, Tolerance::ulps(1), |s, x| math::log(s, x), |x| x.ln();
    /// Sine of radians.
    Sin, Tolerance::ulps(3), |s, x| math::sin(s, x), |x| x.sin();
    /// Cosine of radians.
    Cos, Tolerance::ulps(3), |s, x| math::cos(s, x), |x| x.cos();
    /// Hyperbolic tangent.
    Tanh, Tolerance::ulps(3), |s, x| math::tanh(s, x), |x| x.tanh();
    /// `1 / (1 + e^-x)`.
    Sigmoid, Tolerance::ulps(3), |s, x| math::sigmoid(s, x), |x| reference::sigmoid(x);
    /// Error function.
    Erf, Tolerance::ulps(3), |s, x| math::erf(s, x), |x| reference::erf(x);
}
