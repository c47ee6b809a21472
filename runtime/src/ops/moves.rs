//! What the ops that only move elements share.

use tenon_kernels::movement::{Layout, StridedCopy};

use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};

/// Refuses operands whose elements cannot move one by one, or that differ in type.
///
/// # Errors
/// [`Error::DType`] naming the first.
pub(super) fn movable(op: &'static str, inputs: &[&TensorDesc]) -> Result<()> {
    for (operand, desc) in inputs.iter().enumerate() {
        let found = desc.dtype();
        let fail = |expected| Err(Error::DType { op, operand, expected, found });
        if matches!(found, DType::Quant(_)) {
            return fail("an unquantized type (see `dequantize`)");
        }
        if found != inputs[0].dtype() {
            return fail("that of operand 0");
        }
    }
    Ok(())
}

/// Copies input 0 from a strided layout to the whole output.
pub(super) fn gather_to(output: &TensorDesc, from: &Layout) -> Launch {
    let shape = output.shape();
    let to = Layout::new(0, &shape.strides()[..shape.len()]);
    Launch::Move { fill: None, copies: vec![(0, StridedCopy::new(shape, from, &to))] }
}

/// A copy of the whole of an input to a strided layout.
pub(super) fn scatter_from(input: &TensorDesc, to: &Layout) -> StridedCopy {
    let shape = input.shape();
    StridedCopy::new(shape, &Layout::new(0, &shape.strides()[..shape.len()]), to)
}
