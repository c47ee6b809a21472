//! `sgd`: a step of stochastic gradient descent.

use super::common::{all_f32, shape_error};
use super::{AttrReader, Attrs, Case, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Update};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// Overwrites a parameter (and its momentum): operands are the parameter, its gradient, the
/// momentum where there is one, and the scalars learning rate and gradient scale. The rule is
/// PyTorch's.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Momentum; 0 takes no buffer.
    pub momentum: f32,
    /// Whether momentum is Nesterov's.
    pub nesterov: bool,
    /// L2 penalty.
    pub weight_decay: f32,
}

/// Refuses operands that are not `tensors` of one shape and then scalars.
pub(super) fn check(op: &'static str, inputs: &[&TensorDesc], tensors: usize) -> Result<()> {
    all_f32(op, inputs)?;
    let (same, scalars) = inputs.split_at(tensors);
    if same.iter().any(|d| *d != same[0]) || scalars.iter().any(|d| d.numel() != 1) {
        let why = "takes the parameter, gradient and states in one shape, then scalars";
        return Err(shape_error(op, inputs, why));
    }
    Ok(())
}

impl Op for Sgd {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![
            ("momentum", self.momentum.into()),
            ("nesterov", self.nesterov.into()),
            ("weight_decay", self.weight_decay.into()),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let tensors = if self.momentum == 0.0 { 2 } else { 3 };
        if inputs.len() != tensors + 2 {
            let expected = if self.momentum == 0.0 { "4" } else { "5" };
            return Err(Error::Arity { op: Self::NAME, expected, found: inputs.len() });
        }
        check(Self::NAME, inputs, tensors)?;
        Ok(Vec::new())
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "it is an update" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Update(Update::Sgd {
            momentum: self.momentum,
            nesterov: self.nesterov,
            weight_decay: self.weight_decay,
        })
    }

    fn mutates(&self) -> &'static [usize] {
        if self.momentum == 0.0 { &[0] } else { &[0, 2] }
    }
}

impl OpKind for Sgd {
    const NAME: &'static str = "sgd";
    const GRADIENT: Gradient = Gradient::None("it is an update");
    const TOLERANCE: Tolerance = Tolerance::scaled(4e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            momentum: attrs.float_or("momentum", 0.0)? as f32,
            nesterov: attrs.bool_or("nesterov", false)?,
            weight_decay: attrs.float_or("weight_decay", 0.0)? as f32,
        })
    }

    fn cases() -> Vec<Case> {
        let of = |momentum, nesterov| {
            Case::new(Self { momentum, nesterov, weight_decay: 0.01 }).f32(&[5, 7]).f32(&[5, 7])
        };
        vec![
            of(0.0, false).f32(&[]).f32(&[]),
            of(0.9, false).f32(&[5, 7]).f32(&[]).f32(&[]),
            of(0.9, true).f32(&[5, 7]).f32(&[]).f32(&[]),
        ]
    }
}
