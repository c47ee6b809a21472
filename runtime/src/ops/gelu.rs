//! `gelu`: Gaussian error linear unit.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, GeluGrad, Tolerance};

unary_op! {
    /// `y = x (1 + erf(x / sqrt(2))) / 2` (Hendrycks and Gimpel, arXiv 1606.08415).
    Gelu = "gelu", Unary::Gelu, Tolerance::scaled(1e-6), Fill::Normal;
    |cx| cx.add(GeluGrad, &[cx.input(0), cx.cotangent()])
}
