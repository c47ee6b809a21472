//! `add`: elementwise sum.

use tenon_kernels::binary::Binary;

use super::elementwise::{binary_op, pass};
use super::{Fill, Tolerance};

binary_op! {
    /// `z = a + b`; the operands broadcast.
    Add = "add", Binary::Add, Tolerance::EXACT, Fill::Normal, Fill::Normal;
    |cx| pass(cx), pass(cx)
}
