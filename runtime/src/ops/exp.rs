//! `exp`: elementwise exponential.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, Mul, Tolerance};

unary_op! {
    /// `y = e^x`.
    Exp = "exp", Unary::Exp, Tolerance::relative(3e-7), Fill::Normal;
    |cx| cx.add(Mul, &[cx.cotangent(), cx.output(0)])
}
