//! `dequantize`: a weight format into f32.

use tenon_kernels::quant::Format;

use super::common::arity;
use super::{AttrReader, Case, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};

/// The values of a quantized, f16, bf16 or f32 tensor, as f32. Exact.
///
/// The gradient with respect to the encoded values is that with respect to the decoded ones; after
/// [`super::Quantize`] that makes the straight-through estimator.
#[derive(Clone, Copy, Debug)]
pub struct Dequantize;

impl Op for Dequantize {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        if x.dtype().format().is_none() {
            let (expected, found) = ("a quantized type, f16, bf16 or f32", x.dtype());
            return Err(Error::DType { op: Self::NAME, operand: 0, expected, found });
        }
        Ok(vec![TensorDesc::new(DType::F32, *x.shape())?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        cx.set(0, cx.cotangent());
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Dequantize
    }
}

impl OpKind for Dequantize {
    const NAME: &'static str = "dequantize";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        let case = |format, dims: &[usize]| {
            Case::new(Self).typed(DType::from_format(format), dims, Fill::Normal)
        };
        let mut cases: Vec<_> = Format::ALL.iter().map(|&f| case(f, &[3, 256])).collect();
        cases.push(case(Format::Q4_1, &[2048, 2048]).bench());
        cases
    }
}
