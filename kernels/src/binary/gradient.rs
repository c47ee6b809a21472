//! Gradients of activations: a derivative times the gradient of the result.

use super::binary_ops;
use crate::reference;
use crate::tolerance::Tolerance;
use crate::unary::{gelu_slope, gelu_tanh_slope, silu_slope};

/// The error of slopes that are sums with cancellation, where the result is near zero.
const CANCELLING: Tolerance = Tolerance::ulps(8).or_absolute(1e-6);

binary_ops! {
    /// `b` where `a > 0`, else 0: the gradient of relu at `a`.
    ReluGrad, Tolerance::EXACT,
        |s, a, b| s.select(s.lt(s.zero(), a), b, s.zero()),
        |a, b| if a > 0.0 { b } else { 0.0 };
    /// `b gelu'(a)`.
    GeluGrad, CANCELLING, |s, a, b| s.mul(gelu_slope(s, a), b), |a, b| reference::gelu_slope(a) * b;
    /// `b gelu_tanh'(a)`.
    GeluTanhGrad, CANCELLING,
        |s, a, b| s.mul(gelu_tanh_slope(s, a), b),
        |a, b| reference::gelu_tanh_slope(a) * b;
    /// `b silu'(a)`.
    SiluGrad, CANCELLING, |s, a, b| s.mul(silu_slope(s, a), b), |a, b| reference::silu_slope(a) * b;
    /// `b (1 - a^2)`: the gradient of tanh from its result `a`.
    TanhGrad, Tolerance::ulps(3),
        |s, a, b| s.mul(s.mul(s.sub(s.splat(1.0), a), s.add(s.splat(1.0), a)), b),
        |a, b| (1.0 - a) * (1.0 + a) * b;
    /// `b a (1 - a)`: the gradient of sigmoid from its result `a`.
    SigmoidGrad, Tolerance::ulps(3),
        |s, a, b| s.mul(s.mul(s.sub(s.splat(1.0), a), a), b),
        |a, b| a * (1.0 - a) * b;
}
