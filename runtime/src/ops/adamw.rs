//! `adamw`: a step of AdamW.

use super::adam::cases;
use super::{AttrReader, Attrs, Case, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Update};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;
use crate::train::{Moments, States};

/// Overwrites a parameter and its moments: operands are the parameter, its gradient, the first and
/// second moment as [`States`] stores them, and the scalars learning rate, step number (from 1) and
/// gradient scale. The rule is PyTorch's AdamW; weight decay is decoupled (Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug)]
pub struct AdamW(pub Moments, pub States);

impl Op for AdamW {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        [self.0.attrs(), self.1.attrs()].concat()
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        self.1.check(Self::NAME, inputs, 2, 3)?;
        Ok(Vec::new())
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "it is an update" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Update(Update::Adam { moments: self.0, states: self.1, decoupled: true })
    }

    fn mutates(&self) -> &'static [usize] {
        self.1.mutated(2)
    }
}

impl OpKind for AdamW {
    const NAME: &'static str = "adamw";
    const GRADIENT: Gradient = Gradient::None("it is an update");
    const TOLERANCE: Tolerance = Tolerance::scaled(4e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self(Moments::parse(attrs)?, States::parse(attrs)?))
    }

    fn cases() -> Vec<Case> {
        cases(Self)
    }
}
