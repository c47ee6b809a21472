//! `tanh`: elementwise hyperbolic tangent.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, TanhGrad, Tolerance};

unary_op! {
    /// `y = tanh(x)`.
    Tanh = "tanh", Unary::Tanh, Tolerance::relative(6e-7), Fill::Normal;
    |cx| cx.add(TanhGrad, &[cx.output(0), cx.cotangent()])
}
