//! `batch_norm`: normalisation by the statistics of each channel over the batch.

use std::sync::Arc;

use tenon_kernels::conv::Conv;
use tenon_kernels::conv::batch_norm::BatchNorm as Kernel;

use super::common::{all_f32, shape_error};
use super::{AttrReader, Attrs, BatchNormGrad, Case, Cost, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// Normalises each channel of `x [N, C]` or `[N, C, ...]` (Ioffe and Szegedy, 2015).
///
/// Operands: `x`; if `running`, the running mean and variance `[C]`; if `affine`, scale and shift
/// `[C]`. Outputs: `y`, and the mean and reciprocal standard deviation `[C]` that it used. Training
/// takes the statistics of the batch, and overwrites the running ones by
/// `(1 - momentum) * running + momentum * batch`, the variance by its unbiased estimate; evaluation
/// takes the running ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Whether the batch's own statistics are used, and the running ones updated.
    pub training: bool,
    /// Whether running statistics are operands.
    pub running: bool,
    /// Whether scale and shift are operands.
    pub affine: bool,
    /// Share of the batch in the running statistics.
    pub momentum: f32,
    /// Added to the variance.
    pub eps: f32,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self { training: true, running: true, affine: true, momentum: 0.1, eps: 1e-5 }
    }
}

impl BatchNorm {
    /// Number of the scale operand.
    fn scale(&self) -> usize {
        if self.running { 3 } else { 1 }
    }

    fn operands(&self) -> usize {
        self.scale() + if self.affine { 2 } else { 0 }
    }
}

/// The kernel's view of `x`, where it has channels.
///
/// # Errors
/// [`Error::Shape`].
pub(super) fn kernel(op: &'static str, inputs: &[&TensorDesc]) -> Result<Kernel> {
    let x = inputs[0].shape();
    match **x {
        [batch, channels, ref rest @ ..] if channels > 0 => {
            Ok(Kernel { batch, channels, len: rest.iter().product() })
        }
        _ => Err(shape_error(op, inputs, "x must be [batch, channels, ...]")),
    }
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![
            ("training", self.training.into()),
            ("running", self.running.into()),
            ("affine", self.affine.into()),
            ("momentum", self.momentum.into()),
            ("eps", self.eps.into()),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let found = inputs.len();
        if found != self.operands() {
            let expected = ["1", "3", "5"][self.operands() / 2];
            return Err(Error::Arity { op: Self::NAME, expected, found });
        }
        all_f32(Self::NAME, inputs)?;
        let shape = kernel(Self::NAME, inputs)?;
        if inputs[1..].iter().any(|d| **d.shape() != [shape.channels]) {
            return Err(shape_error(Self::NAME, inputs, "statistics, scale and shift must be [C]"));
        }
        if self.training && shape.batch * shape.len < 2 {
            return Err(shape_error(Self::NAME, inputs, "training needs two values a channel"));
        }
        let channels = TensorDesc::f32(&[shape.channels])?;
        Ok(vec![inputs[0].clone(), channels.clone(), channels])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let mut operands = vec![cx.input(0), cx.output(1), cx.output(2), cx.cotangent()];
        operands.extend(self.affine.then(|| cx.input(self.scale())));
        let back = BatchNormGrad { training: self.training, affine: self.affine };
        let gradients = cx.add_all(back, &operands)?;
        cx.set(0, gradients[0]);
        if self.affine {
            cx.set(self.scale(), gradients[1]);
            cx.set(self.scale() + 1, gradients[2]);
        }
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Conv(Conv::Normalize {
            shape: kernel(Self::NAME, inputs).expect("inference accepted these operands"),
            momentum: self.training.then_some(self.momentum),
            eps: self.eps,
            running: self.running,
            affine: self.affine,
        })
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
        // Mean, variance, and a multiply-add.
        let each = if self.training { 6.0 } else { 3.0 };
        Cost { flops: each * inputs[0].numel() as f64, bytes }
    }

    fn evaluating(&self) -> Option<Arc<dyn Op>> {
        self.running.then(|| Arc::new(Self { training: false, ..*self }) as Arc<dyn Op>)
    }

    fn mutates(&self) -> &'static [usize] {
        if self.training && self.running { &[1, 2] } else { &[] }
    }
}

impl OpKind for BatchNorm {
    const NAME: &'static str = "batch_norm";
    const TOLERANCE: Tolerance = Tolerance::scaled(2e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let default = Self::default();
        let op = Self {
            training: attrs.bool_or("training", default.training)?,
            running: attrs.bool_or("running", default.running)?,
            affine: attrs.bool_or("affine", default.affine)?,
            momentum: attrs.float_or("momentum", f64::from(default.momentum))? as f32,
            eps: attrs.float_or("eps", f64::from(default.eps))? as f32,
        };
        if op.training || op.running {
            Ok(op)
        } else {
            Err(attrs.error("running", "must be true in evaluation, which reads these statistics"))
        }
    }

    fn cases() -> Vec<Case> {
        let case = |op: Self, x: &[usize]| {
            let channels = [x[1]];
            let case = Case::new(op).f32(x);
            let case = if op.running {
                case.fixed(&channels, Fill::Normal).fixed(&channels, Fill::Uniform(0.5, 2.0))
            } else {
                case
            };
            if op.affine { case.f32(&channels).f32(&channels) } else { case }
        };
        let plain = Self::default();
        let bare = Self { running: false, affine: false, ..plain };
        vec![
            case(plain, &[3, 4, 5, 2]),
            case(Self { momentum: 0.7, eps: 0.1, ..plain }, &[5, 19]),
            case(bare, &[4, 3, 7]),
            case(Self { training: false, ..plain }, &[2, 3, 4, 4]),
            case(plain, &[64, 32, 28, 28]).bench(),
        ]
    }
}
