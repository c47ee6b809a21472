//! `add_rms_norm`: a residual connection and the norm that follows it.

use super::common::{all_f32, arity, shape_error};
use super::rms_norm::per_row;
use std::sync::Arc;

use super::{
    Attr, AttrReader, Attrs, Case, Gradient, Op, OpKind, Part, Remake, RmsNorm, Tolerance, Vjp,
};
use crate::backend::{Launch, Row};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

const REASON: &str = "it is made after differentiation, from `add` and `rms_norm`, which have one";

/// `sum = x + h`, `y = sum * rstd * weight` with `rstd = 1 / sqrt(mean(sum^2) + eps)`.
/// Operands: `x`, `h` [..., n], `weight` [n]. Outputs: `sum`, `y` [..., n], `rstd` [..., 1].
#[derive(Clone, Copy, Debug)]
pub struct AddRmsNorm {
    /// Added to the mean square.
    pub eps: f32,
}

impl Op for AddRmsNorm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::from(self.eps))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x, h, weight] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        if x.shape().is_empty() || weight.shape()[..] != [x.cols()] || x.cols() == 0 {
            return Err(shape_error(Self::NAME, inputs, "the weight is not the last axis of x"));
        }
        if x != h {
            return Err(shape_error(Self::NAME, inputs, "the summands differ in shape"));
        }
        Ok(vec![x.clone(), x.clone(), per_row(x)?])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: REASON })
    }

    fn remake(&self, output: usize) -> Option<Remake> {
        // Outputs 1 and 2 are the norm of output 0.
        let op = Arc::new(RmsNorm { eps: self.eps });
        let operands = vec![Part::Output(0), Part::Input(2)];
        (output > 0).then(|| Remake { op, operands, output: output - 1 })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::AddRmsNorm { eps: self.eps })
    }
}

impl OpKind for AddRmsNorm {
    const NAME: &'static str = "add_rms_norm";
    const GRADIENT: Gradient = Gradient::None(REASON);
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { eps: attrs.float_or("eps", 1e-6)? as f32 })
    }

    fn cases() -> Vec<Case> {
        let case = |dims: &[usize]| {
            let weight = &dims[dims.len() - 1..];
            Case::new(Self { eps: 1e-5 }).f32(dims).f32(dims).f32(weight)
        };
        vec![case(&[3, 5]), case(&[2, 3, 17]), case(&[4]), case(&[4096, 1024]).bench_rows()]
    }
}
