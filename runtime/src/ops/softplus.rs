//! `softplus`: elementwise smooth rectifier.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, Mul, Sigmoid, Tolerance};

unary_op! {
    /// `y = ln(1 + e^x)`.
    Softplus = "softplus", Unary::Softplus, Tolerance::relative(1e-6), Fill::Normal;
    |cx| {
        let slope = cx.add(Sigmoid, &[cx.input(0)])?;
        cx.add(Mul, &[cx.cotangent(), slope])
    }
}
