//! `rms_norm_grad`: the gradient of `rms_norm` toward its input.

use super::common::{all_f32, arity, shape_error};
use super::rms_norm::per_row;
use super::{AttrReader, Case, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Row};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// `dx = rstd (g - x rstd^2 mean(g x))` with `g = dy * weight`, from `x`, `weight`, `rstd`, `dy`.
#[derive(Clone, Copy, Debug)]
pub struct RmsNormGrad;

impl Op for RmsNormGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x, weight, rstd, dy] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        let fits = weight.shape()[..] == [x.cols()] && *rstd == per_row(x)? && dy == x;
        if !fits || x.cols() == 0 {
            return Err(shape_error(Self::NAME, inputs, "operands are not those of rms_norm"));
        }
        Ok(vec![x.clone()])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "second derivatives are not built" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::RmsNormGrad)
    }
}

impl OpKind for RmsNormGrad {
    const NAME: &'static str = "rms_norm_grad";
    const GRADIENT: Gradient = Gradient::None("second derivatives are not built");
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        let scale = || Fill::Uniform(0.5, 2.0);
        let of = |dims: [usize; 2]| {
            let case = Case::new(Self).f32(&dims).f32(&[dims[1]]);
            case.fixed(&[dims[0], 1], scale()).f32(&dims)
        };
        vec![of([3, 5]), of([2, 33]), of([4096, 1024]).bench_rows()]
    }
}
