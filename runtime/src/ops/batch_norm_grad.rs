//! `batch_norm_grad`: the gradients of `batch_norm`.

use tenon_kernels::conv::Conv;

use super::attention_grad::SECOND;
use super::batch_norm::kernel;
use super::common::{all_f32, shape_error};
use super::{AttrReader, Attrs, Case, Cost, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// Gradients of input, scale and shift from `x`, the mean and reciprocal standard deviation that
/// the forward pass gave, `dy`, and the scale if `affine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchNormGrad {
    /// Whether the statistics came from the batch.
    pub training: bool,
    /// Whether there is a scale.
    pub affine: bool,
}

impl Op for BatchNormGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("training", self.training.into()), ("affine", self.affine.into())]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let expected = if self.affine { "5" } else { "4" };
        if inputs.len() != 4 + usize::from(self.affine) {
            return Err(Error::Arity { op: Self::NAME, expected, found: inputs.len() });
        }
        all_f32(Self::NAME, inputs)?;
        let shape = kernel(Self::NAME, inputs)?;
        let channels = |i: usize| inputs.get(i).is_none_or(|d| **d.shape() == [shape.channels]);
        if inputs[3].shape() != inputs[0].shape() || ![1, 2, 4].into_iter().all(channels) {
            let why = "dy must have the shape of x; mean, deviation and scale must be [C]";
            return Err(shape_error(Self::NAME, inputs, why));
        }
        let channels = TensorDesc::f32(&[shape.channels])?;
        Ok(vec![inputs[0].clone(), channels.clone(), channels])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: SECOND })
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Conv(Conv::NormalizeGrad {
            shape: kernel(Self::NAME, inputs).expect("inference accepted these operands"),
            training: self.training,
            affine: self.affine,
        })
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
        Cost { flops: 9.0 * inputs[0].numel() as f64, bytes }
    }
}

impl OpKind for BatchNormGrad {
    const NAME: &'static str = "batch_norm_grad";
    const GRADIENT: Gradient = Gradient::None(SECOND);
    const TOLERANCE: Tolerance = Tolerance::scaled(2e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            training: attrs.bool_or("training", true)?,
            affine: attrs.bool_or("affine", true)?,
        })
    }

    fn cases() -> Vec<Case> {
        let case = |training, affine, x: &[usize]| {
            let channels = [x[1]];
            let case = Case::new(Self { training, affine })
                .fixed(x, Fill::Normal)
                .fixed(&channels, Fill::Normal)
                .fixed(&channels, Fill::Uniform(0.5, 2.0))
                .fixed(x, Fill::Normal);
            if affine { case.fixed(&channels, Fill::Normal) } else { case }
        };
        vec![
            case(true, true, &[3, 4, 5, 2]),
            case(true, false, &[5, 19]),
            case(false, true, &[2, 3, 9]),
            case(true, true, &[64, 32, 28, 28]).bench(),
        ]
    }
}
