//! `log_softmax_grad`: the gradient of `log_softmax`.

use super::common::{all_f32, arity, shape_error};
use super::{AttrReader, Case, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Row};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// `dx = dy - exp(y) sum(dy)` from `y` and `dy`.
#[derive(Clone, Copy, Debug)]
pub struct LogSoftmaxGrad;

impl Op for LogSoftmaxGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [y, dy] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        if y != dy || y.cols() == 0 {
            return Err(shape_error(Self::NAME, inputs, "operands must have one shape, with rows"));
        }
        Ok(vec![y.clone()])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "second derivatives are not built" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::LogSoftmaxGrad)
    }
}

impl OpKind for LogSoftmaxGrad {
    const NAME: &'static str = "log_softmax_grad";
    const GRADIENT: Gradient = Gradient::None("second derivatives are not built");
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        vec![
            Case::new(Self).filled(&[3, 5], super::Fill::Uniform(-3.0, -1.0)).f32(&[3, 5]),
            Case::new(Self).f32(&[2, 3, 17]).f32(&[2, 3, 17]),
            Case::new(Self).f32(&[4096, 1024]).f32(&[4096, 1024]).bench_rows(),
        ]
    }
}
