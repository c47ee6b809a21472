//! `mul`: elementwise product.

use tenon_kernels::binary::Binary;

use super::elementwise::binary_op;
use super::{Fill, Tolerance};

binary_op! {
    /// `z = a b`; the operands broadcast.
    Mul = "mul", Binary::Mul, Tolerance::EXACT, Fill::Normal, Fill::Normal;
    |cx| cx.add(Self, &[cx.cotangent(), cx.input(1)]),
    cx.add(Self, &[cx.cotangent(), cx.input(0)])
}
