//! `log_softmax`: the logarithm of softmax along the last axis.

use super::common::{all_f32, arity, shape_error};
use super::{AttrReader, Case, LogSoftmaxGrad, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Row};
use crate::error::Result;
use crate::tensor::TensorDesc;

/// `y = x - ln sum exp(x)` along the last axis.
#[derive(Clone, Copy, Debug)]
pub struct LogSoftmax;

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        if x.cols() == 0 {
            return Err(shape_error(Self::NAME, inputs, "rows are empty"));
        }
        Ok(vec![x.clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let dx = cx.add(LogSoftmaxGrad, &[cx.output(0), cx.cotangent()])?;
        cx.set(0, dx);
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::LogSoftmax)
    }
}

impl OpKind for LogSoftmax {
    const NAME: &'static str = "log_softmax";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        let new = || Case::new(Self);
        vec![
            new().f32(&[3, 5]),
            new().f32(&[2, 3, 17]),
            new().f32(&[4]),
            new().f32(&[4096, 1024]).bench_rows(),
        ]
    }
}
