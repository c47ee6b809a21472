//! `relu_grad`: gradient of relu.

use tenon_kernels::binary::Binary;

use super::elementwise::{SECOND_ORDER, binary_op};
use super::{Fill, Tolerance};

binary_op! {
    /// `dx = dy` where `x > 0`, else 0; `x` may also be relu's result.
    ReluGrad = "relu_grad", Binary::ReluGrad, Tolerance::EXACT, Fill::AwayFromZero, Fill::Normal;
    none SECOND_ORDER
}
