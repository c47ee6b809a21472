//! `sigmoid`: elementwise logistic function.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, SigmoidGrad, Tolerance};

unary_op! {
    /// `y = 1 / (1 + e^-x)`.
    Sigmoid = "sigmoid", Unary::Sigmoid, Tolerance::relative(6e-7), Fill::Normal;
    |cx| cx.add(SigmoidGrad, &[cx.output(0), cx.cotangent()])
}
