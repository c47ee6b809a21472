//! `adamw`: a step of AdamW.

use super::sgd::check;
use super::{AttrReader, Attrs, Case, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Update};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;
use crate::train::Moments;

/// Overwrites a parameter and its moments: operands are the parameter, its gradient, the first and
/// second moment, and the scalars learning rate, step number (from 1) and gradient scale. The rule
/// is PyTorch's AdamW; weight decay is decoupled (Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug)]
pub struct AdamW(pub Moments);

impl Op for AdamW {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        self.0.attrs()
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        if inputs.len() != 7 {
            return Err(Error::Arity { op: Self::NAME, expected: "7", found: inputs.len() });
        }
        check(Self::NAME, inputs, 4)?;
        Ok(Vec::new())
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "it is an update" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Update(Update::Adam { moments: self.0, decoupled: true })
    }

    fn mutates(&self) -> &'static [usize] {
        &[0, 2, 3]
    }
}

impl OpKind for AdamW {
    const NAME: &'static str = "adamw";
    const GRADIENT: Gradient = Gradient::None("it is an update");
    const TOLERANCE: Tolerance = Tolerance::scaled(4e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self(Moments::parse(attrs)?))
    }

    fn cases() -> Vec<Case> {
        let positive = || Fill::Uniform(0.5, 2.0);
        let case = Case::new(Self(Moments::default())).f32(&[5, 7]).f32(&[5, 7]).f32(&[5, 7]);
        let case = case.fixed(&[5, 7], positive());
        vec![case.f32(&[]).fixed(&[], Fill::Values(vec![3.0])).f32(&[])]
    }
}
