//! `sub`: elementwise difference.

use tenon_kernels::binary::Binary;

use super::elementwise::{binary_op, pass};
use super::{Fill, Neg, Tolerance};

binary_op! {
    /// `z = a - b`; the operands broadcast.
    Sub = "sub", Binary::Sub, Tolerance::EXACT, Fill::Normal, Fill::Normal;
    |cx| pass(cx), cx.add(Neg, &[cx.cotangent()])
}
