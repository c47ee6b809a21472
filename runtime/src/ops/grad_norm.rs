//! `grad_norm`: the global norm of gradients.

use super::common::all_f32;
use super::{AttrReader, Case, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// The L2 norm of all operands together: `sqrt(sum over operands of sum x^2)`, summed in operand
/// order.
#[derive(Clone, Copy, Debug)]
pub struct GradNorm;

impl Op for GradNorm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        if inputs.is_empty() {
            return Err(Error::Arity { op: Self::NAME, expected: "1 or more", found: 0 });
        }
        all_f32(Self::NAME, inputs)?;
        Ok(vec![TensorDesc::f32(&[])?])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "it measures gradients" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Norm
    }
}

impl OpKind for GradNorm {
    const NAME: &'static str = "grad_norm";
    const GRADIENT: Gradient = Gradient::None("it measures gradients");
    const TOLERANCE: Tolerance = Tolerance::relative(1e-6);

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        vec![
            Case::new(Self).f32(&[3, 5]),
            Case::new(Self).f32(&[70_001]).f32(&[2]).f32(&[]),
            Case::new(Self).f32(&[1 << 22]).bench_rows(),
        ]
    }
}
