//! `gelu_tanh`: Gaussian error linear unit, by tanh.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, GeluTanhGrad, Tolerance};

unary_op! {
    /// `y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2` (Hendrycks and Gimpel, arXiv 1606.08415).
    GeluTanh = "gelu_tanh", Unary::GeluTanh, Tolerance::scaled(1e-6), Fill::Normal;
    |cx| cx.add(GeluTanhGrad, &[cx.input(0), cx.cotangent()])
}
