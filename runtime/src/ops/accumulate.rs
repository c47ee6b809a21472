//! `accumulate`: adds gradients of micro-steps.

use super::common::{all_f32, arity, shape_error};
use super::{AttrReader, Case, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Update};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// Overwrites the state `total` with `keep * total + x`; `keep` is a scalar, and 0 starts afresh.
#[derive(Clone, Copy, Debug)]
pub struct Accumulate;

impl Op for Accumulate {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [total, x, keep] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        if total != x || keep.numel() != 1 {
            return Err(shape_error(Self::NAME, inputs, "takes total and x of one shape, a scalar"));
        }
        Ok(Vec::new())
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "it is an update" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Update(Update::Accumulate)
    }

    fn mutates(&self) -> &'static [usize] {
        &[0]
    }
}

impl OpKind for Accumulate {
    const NAME: &'static str = "accumulate";
    const GRADIENT: Gradient = Gradient::None("it is an update");
    const TOLERANCE: Tolerance = Tolerance::relative(1e-6);

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        let case = |dims: &[usize]| Case::new(Self).f32(dims).f32(dims).f32(&[]);
        vec![case(&[3, 7]), case(&[1 << 22]).bench_rows()]
    }
}
