//! `eq`: whether `a == b`, elementwise.

use tenon_kernels::binary::Binary;

use super::elementwise::{LEFT, RIGHT, binary_op};
use super::{Fill, Tolerance};

binary_op! {
    /// 1 where `a == b`, else 0; the operands broadcast.
    Eq = "eq", Binary::Eq, Tolerance::EXACT, Fill::Values(LEFT.to_vec()), Fill::Values(RIGHT.to_vec());
    flat
}
