//! `div`: elementwise quotient.

use tenon_kernels::binary::Binary;

use super::elementwise::binary_op;
use super::{Fill, Mul, Neg, Tolerance};

binary_op! {
    /// `z = a / b`; the operands broadcast.
    Div = "div", Binary::Div, Tolerance::EXACT, Fill::Normal, Fill::AwayFromZero;
    |cx| cx.add(Self, &[cx.cotangent(), cx.input(1)]),
    {
        let product = cx.add(Mul, &[cx.cotangent(), cx.output(0)])?;
        let quotient = cx.add(Self, &[product, cx.input(1)])?;
        cx.add(Neg, &[quotient])
    }
}
