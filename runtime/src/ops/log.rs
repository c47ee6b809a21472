//! `log`: elementwise natural logarithm.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Div, Fill, Tolerance};

unary_op! {
    /// `y = ln(x)`; NaN for negative `x`.
    Log = "log", Unary::Log, Tolerance::relative(3e-7), Fill::Uniform(0.1, 3.0);
    |cx| cx.add(Div, &[cx.cotangent(), cx.input(0)])
}
