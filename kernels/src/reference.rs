//! Functions that the references of kernels need and the standard library lacks, in f64.

/// Error function to about 1e-15.
///
/// Sums `2/sqrt(pi) e^(-x^2) x (1 + 2x^2/3 + (2x^2)^2/(3*5) + ...)` (DLMF 7.6.2), all of whose
/// terms have one sign.
#[must_use]
pub fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        return if x.is_nan() { x } else { 1f64.copysign(x) };
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 2.0;
        term *= 2.0 * x * x / n;
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

/// `1 / (1 + e^-x)`.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Where the slopes of activations have long reached 0 or 1; farther out their terms are infinity
/// times zero.
const SATURATED: f64 = 800.0;

/// The derivative of `x cdf(x)` with the normal distribution's `cdf`.
#[must_use]
pub fn gelu_slope(x: f64) -> f64 {
    let x = x.clamp(-SATURATED, SATURATED);
    let pdf = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)) + x * pdf
}

/// The derivative of `x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))`.
#[must_use]
pub fn gelu_tanh_slope(x: f64) -> f64 {
    let x = x.clamp(-SATURATED, SATURATED);
    let inner = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let gate = sigmoid(inner * (x + 0.044_715 * x * x * x));
    gate + x * gate * (1.0 - gate) * inner * (1.0 + 3.0 * 0.044_715 * x * x)
}

/// The derivative of `x sigmoid(x)`.
#[must_use]
pub fn silu_slope(x: f64) -> f64 {
    let x = x.clamp(-SATURATED, SATURATED);
    let gate = sigmoid(x);
    gate * (1.0 + x * (1.0 - gate))
}
