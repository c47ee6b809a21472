//! Which update runs on which parameter.

use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::ops::{Attr, AttrReader};
use crate::train::{StateFormat, States};

/// An update rule with its hyperparameters, as PyTorch defines them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd {
        /// Momentum; 0 keeps no state.
        momentum: f32,
        /// Whether momentum is Nesterov's.
        nesterov: bool,
        /// L2 penalty added to the gradient.
        weight_decay: f32,
    },
    /// Adam (Kingma and Ba 2015); weight decay is an L2 penalty.
    Adam(Moments),
    /// AdamW (Loshchilov and Hutter 2019); weight decay is decoupled.
    AdamW(Moments),
}

/// Hyperparameters of Adam and AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Weight decay.
    pub weight_decay: f32,
}

impl Default for Moments {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::AdamW(Moments::default())
    }
}

/// The scalars an update reads each step.
pub(super) struct Scalars {
    /// Learning rate.
    pub lr: ValueId,
    /// Number of this update, from 1.
    pub step: ValueId,
    /// Multiplier of the gradient: clipping and accumulation.
    pub scale: ValueId,
}

impl Optimizer {
    /// Refuses hyperparameters outside their range.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check(&self) -> Result<()> {
        let fraction = |v: f32| (0.0..1.0).contains(&v);
        let positive = |v: f32| v.is_finite() && v >= 0.0;
        let good = match *self {
            Self::Sgd { momentum, nesterov, weight_decay } => {
                fraction(momentum) && positive(weight_decay) && (!nesterov || momentum > 0.0)
            }
            Self::Adam(m) | Self::AdamW(m) => {
                fraction(m.beta1) && fraction(m.beta2) && m.eps > 0.0 && positive(m.weight_decay)
            }
        };
        if good { Ok(()) } else { Err(Error::Usage(format!("unusable optimizer {self:?}"))) }
    }

    /// Adds the update of `parameter`, with the state it needs.
    pub(super) fn add_update(
        &self,
        graph: &mut Graph,
        [parameter, gradient]: [ValueId; 2],
        scalars: &Scalars,
        states: States,
    ) -> Result<()> {
        let name = graph.get(parameter).name.clone().unwrap_or_default();
        let desc = graph.desc(parameter).clone();
        let mut inputs = vec![parameter, gradient];
        for state in self.states() {
            for (part, desc) in states.tensors(&desc)? {
                inputs.push(graph.state(&format!("{state}{part}/{name}"), desc)?);
            }
        }
        inputs.push(scalars.lr);
        let rounds = !self.states().is_empty() && states.format != StateFormat::F32;
        if rounds || !matches!(self, Self::Sgd { .. }) {
            inputs.push(scalars.step);
        }
        inputs.push(scalars.scale);
        let (op, mut attrs) = self.op();
        attrs.extend(states.attrs());
        graph.call(op, &attrs, &inputs)?;
        Ok(())
    }

    /// Names of the states kept beside each parameter.
    #[must_use]
    pub fn states(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::Adam(_) | Self::AdamW(_) => &["exp_avg", "exp_avg_sq"],
        }
    }

    fn op(&self) -> (&'static str, Vec<(&'static str, Attr)>) {
        match *self {
            Self::Sgd { momentum, nesterov, weight_decay } => (
                "sgd",
                vec![
                    ("momentum", momentum.into()),
                    ("nesterov", nesterov.into()),
                    ("weight_decay", weight_decay.into()),
                ],
            ),
            Self::Adam(m) => ("adam", m.attrs()),
            Self::AdamW(m) => ("adamw", m.attrs()),
        }
    }
}

impl Moments {
    /// Reads the attributes of the ops `adam` and `adamw`.
    pub(crate) fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let default = Self::default();
        Ok(Self {
            beta1: attrs.float_or("beta1", default.beta1.into())? as f32,
            beta2: attrs.float_or("beta2", default.beta2.into())? as f32,
            eps: attrs.float_or("eps", default.eps.into())? as f32,
            weight_decay: attrs.float_or("weight_decay", default.weight_decay.into())? as f32,
        })
    }

    /// As attributes of the ops.
    pub(crate) fn attrs(self) -> Vec<(&'static str, Attr)> {
        vec![
            ("beta1", self.beta1.into()),
            ("beta2", self.beta2.into()),
            ("eps", self.eps.into()),
            ("weight_decay", self.weight_decay.into()),
        ]
    }
}
