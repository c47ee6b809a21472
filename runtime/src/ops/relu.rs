//! `relu`: elementwise rectifier.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, ReluGrad, Tolerance};

unary_op! {
    /// `y = max(x, 0)`; the gradient at 0 is 0.
    Relu = "relu", Unary::Relu, Tolerance::EXACT, Fill::AwayFromZero;
    |cx| {
        // By the result, which is positive where `x` is: `x` need not be kept.
        cx.add(ReluGrad, &[cx.output(0), cx.cotangent()])
    }
}
