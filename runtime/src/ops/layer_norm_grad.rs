//! `layer_norm_grad`: the gradient of `layer_norm` toward its input.

use super::common::{all_f32, shape_error};
use super::rms_norm::per_row;
use super::{AttrReader, Case, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Row};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// `dx = rstd (g - mean(g) - xhat mean(g xhat))` with `g = dy * weight`, from `x`, `mean`, `rstd`,
/// `dy` and perhaps `weight`.
#[derive(Clone, Copy, Debug)]
pub struct LayerNormGrad;

impl Op for LayerNormGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let ([x, mean, rstd, dy] | [x, mean, rstd, dy, _]) = inputs else {
            let found = inputs.len();
            return Err(Error::Arity { op: Self::NAME, expected: "4 or 5", found });
        };
        all_f32(Self::NAME, inputs)?;
        let rows = per_row(x)?;
        let fits = **mean == rows && **rstd == rows && dy == x;
        if !fits || x.cols() == 0 || inputs[4..].iter().any(|w| w.shape()[..] != [x.cols()]) {
            return Err(shape_error(Self::NAME, inputs, "operands are not those of layer_norm"));
        }
        Ok(vec![(*x).clone()])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "second derivatives are not built" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::LayerNormGrad)
    }
}

impl OpKind for LayerNormGrad {
    const NAME: &'static str = "layer_norm_grad";
    const GRADIENT: Gradient = Gradient::None("second derivatives are not built");
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        let of = |dims: [usize; 2]| {
            let row = [dims[0], 1];
            let case = Case::new(Self).f32(&dims).f32(&row);
            case.fixed(&row, Fill::Uniform(0.5, 2.0)).f32(&dims)
        };
        vec![of([3, 5]), of([2, 33]).f32(&[33]), of([4096, 1024]).f32(&[1024]).bench_rows()]
    }
}
