//! `after`: a value that is there only once others are.

use super::{AttrReader, Case, Cost, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};

/// The first operand; whatever reads it runs after the nodes that make the other operands, which may
/// be of any type and shape. No bytes move. The others get no gradient.
///
/// A graph that waits for its caller stands still at such a node: what the caller gives is the first
/// operand, what it is to have first are the others.
#[derive(Clone, Copy, Debug)]
pub struct After;

impl Op for After {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        match inputs {
            [x, _, ..] => Ok(vec![(*x).clone()]),
            _ => Err(Error::Arity { op: Self::NAME, expected: "2 or more", found: inputs.len() }),
        }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        cx.set(0, cx.cotangent());
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Alias
    }

    fn cost(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Cost {
        Cost::default()
    }
}

impl OpKind for After {
    const NAME: &'static str = "after";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        let new = || Case::new(Self).f32(&[3, 5]);
        vec![
            new().fixed(&[2], Fill::Normal),
            new().typed(DType::BF16, &[4, 7], Fill::Normal).index(&[], 3),
        ]
    }
}
