//! `linear_cross_entropy_grad`: the gradient of `linear_cross_entropy`, again strip by strip.

use tenon_kernels::gemm::Precision;

use super::common::{all_f32, arity, shape_error};
use super::linear_cross_entropy::{check, cost};
use super::matmul::{PRECISIONS, precision_name};
use super::{
    AttrReader, Attrs, Case, Cost, Fill, Gradient, Op, OpKind, Tolerance, Vjp,
};
use crate::backend::{Launch, LinearLoss, LossPart};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// From `x`, `W`, targets, the rows' logsumexp and the loss's cotangent: `dx`, and `dW` where
/// `wants_weight`. With `P = softmax(x W^T) - onehot(target)`, divided by the number of counted
/// rows: `dx = P W`, `dW = P^T x`.
#[derive(Clone, Copy, Debug)]
pub struct LinearCrossEntropyGrad {
    /// Targets that do not count.
    pub ignore_index: i32,
    /// What operands are rounded to.
    pub precision: Precision,
    /// Whether to make `dW`.
    pub wants_weight: bool,
}

impl Op for LinearCrossEntropyGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![
            ("ignore_index", self.ignore_index.into()),
            ("precision", precision_name(self.precision).into()),
            ("wants_weight", self.wants_weight.into()),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x, w, _, lse, dloss] = arity(Self::NAME, inputs)?;
        check(Self::NAME, inputs)?;
        all_f32(Self::NAME, &[lse, dloss])?;
        if lse.shape()[..] != [x.rows()] || dloss.numel() != 1 {
            let why = "operands are not those of linear_cross_entropy";
            return Err(shape_error(Self::NAME, inputs, why));
        }
        let mut outputs = vec![x.clone()];
        if self.wants_weight {
            outputs.push(TensorDesc::f32(w.shape())?);
        }
        Ok(outputs)
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "second derivatives are not built" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::LinearLoss(LinearLoss {
            ignore_index: self.ignore_index,
            precision: self.precision,
            part: LossPart::Backward,
        })
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        cost(if self.wants_weight { 3.0 } else { 2.0 }, inputs, outputs)
    }
}

impl OpKind for LinearCrossEntropyGrad {
    const NAME: &'static str = "linear_cross_entropy_grad";
    const GRADIENT: Gradient = Gradient::None("second derivatives are not built");
    const TOLERANCE: Tolerance = Tolerance::scaled(2e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            ignore_index: attrs.int_or("ignore_index", -100)? as i32,
            precision: attrs.choice("precision", PRECISIONS)?,
            wants_weight: attrs.bool_or("wants_weight", true)?,
        })
    }

    fn cases() -> Vec<Case> {
        let case = |wants_weight| {
            let precision = Precision::F32;
            Case::new(Self { ignore_index: -100, precision, wants_weight })
        };
        let one = || Fill::Values(vec![1.0]);
        // A logsumexp well above the logits keeps the probabilities below 1.
        let high = || Fill::Uniform(6.0, 7.0);
        vec![
            case(true).f32(&[5, 7]).f32(&[11, 7]).index(&[5], 11).fixed(&[5], high()).fixed(&[], one()),
            case(false).f32(&[3, 8]).f32(&[3000, 8]).index(&[3], 3000).fixed(&[3], high()).fixed(&[], one()),
        ]
    }
}
