//! `gelu_grad`: gradient of gelu.

use tenon_kernels::binary::Binary;

use super::elementwise::{SECOND_ORDER, binary_op};
use super::{Fill, Tolerance};

binary_op! {
    /// `dx = dy gelu'(x)`.
    GeluGrad = "gelu_grad", Binary::GeluGrad, Tolerance::scaled(1e-6), Fill::Normal, Fill::Normal;
    none SECOND_ORDER
}
