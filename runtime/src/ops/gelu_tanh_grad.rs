//! `gelu_tanh_grad`: gradient of gelu_tanh.

use tenon_kernels::binary::Binary;

use super::elementwise::{SECOND_ORDER, binary_op};
use super::{Fill, Tolerance};

binary_op! {
    /// `dx = dy gelu_tanh'(x)`.
    GeluTanhGrad = "gelu_tanh_grad", Binary::GeluTanhGrad, Tolerance::scaled(1e-6), Fill::Normal, Fill::Normal;
    none SECOND_ORDER
}
