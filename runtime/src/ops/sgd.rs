//! `sgd`: a step of stochastic gradient descent.

use tenon_kernels::update::StateFormat;

use super::{AttrReader, Attrs, Case, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Update};
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};
use crate::train::States;

/// Overwrites a parameter (and its momentum): operands are the parameter, its gradient, the
/// momentum where there is one, as [`States`] stores it, and the scalars learning rate, step number
/// (where the momentum is not f32) and gradient scale. The rule is PyTorch's.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Momentum; 0 takes no buffer.
    pub momentum: f32,
    /// Whether momentum is Nesterov's.
    pub nesterov: bool,
    /// L2 penalty.
    pub weight_decay: f32,
    /// How the momentum is stored.
    pub states: States,
}

impl Sgd {
    /// States beside the parameter.
    fn kept(&self) -> usize {
        usize::from(self.momentum != 0.0)
    }
}

impl Op for Sgd {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = vec![
            ("momentum", self.momentum.into()),
            ("nesterov", self.nesterov.into()),
            ("weight_decay", self.weight_decay.into()),
        ];
        attrs.extend(self.states.attrs());
        attrs
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        // What is rounded is rounded by the step's number.
        let rounds = self.kept() > 0 && self.states.format != StateFormat::F32;
        self.states.check(Self::NAME, inputs, self.kept(), 2 + usize::from(rounds))?;
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
            states: self.states,
        })
    }

    fn mutates(&self) -> &'static [usize] {
        self.states.mutated(self.kept())
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
            states: States::parse(attrs)?,
        })
    }

    fn cases() -> Vec<Case> {
        let of = |momentum, nesterov, format| {
            let states = States { format, stream: 1 };
            Case::new(Self { momentum, nesterov, weight_decay: 0.01, states })
                .f32(&[5, 70])
                .f32(&[5, 70])
        };
        vec![
            of(0.0, false, StateFormat::F32).f32(&[]).f32(&[]),
            of(0.9, false, StateFormat::F32).f32(&[5, 70]).f32(&[]).f32(&[]),
            of(0.9, true, StateFormat::F32).f32(&[5, 70]).f32(&[]).f32(&[]),
            of(0.9, true, StateFormat::Bf16)
                .typed(DType::BF16, &[5, 70], Fill::Normal)
                .f32(&[])
                .fixed(&[], Fill::Values(vec![3.0]))
                .f32(&[]),
            of(0.9, false, StateFormat::Int8)
                .typed(DType::I8, &[5, 70], Fill::Uniform(-120.0, 120.0))
                .fixed(&[2], Fill::Uniform(0.5, 2.0))
                .f32(&[])
                .fixed(&[], Fill::Values(vec![3.0]))
                .f32(&[]),
            Case::new(Self {
                momentum: 0.9,
                nesterov: false,
                weight_decay: 0.01,
                states: States { format: StateFormat::F32, stream: 1 },
            })
            .f32(&[1 << 22])
            .f32(&[1 << 22])
            .f32(&[1 << 22])
            .f32(&[])
            .f32(&[])
            .bench(),
        ]
    }
}
