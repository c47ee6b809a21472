//! `maximum`: elementwise greater of two.

use tenon_kernels::binary::Binary;

use super::elementwise::{LEFT, RIGHT, binary_op, share_of_extremum};
use super::{Fill, Ge, Gt, Tolerance};

binary_op! {
    /// The greater of `a` and `b`, NaN where either is; the operands broadcast. Where they are equal, each
    /// gets half of the gradient.
    Maximum = "maximum", Binary::Max, Tolerance::EXACT, Fill::Values(LEFT.to_vec()), Fill::Values(RIGHT.to_vec());
    |cx| share_of_extremum(cx, Gt, Ge, [0, 1]),
    share_of_extremum(cx, Gt, Ge, [1, 0])
}
