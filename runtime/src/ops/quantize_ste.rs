//! `quantize_ste`: what a weight format keeps of `x`, with a straight-through gradient.

use tenon_kernels::quant::Format;

use super::common::infer_unary;
use super::quantize::read_format;
use super::{Attr, AttrReader, Attrs, Case, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::{DType, TensorDesc};

/// `dequantize(quantize(x))` in one pass and in place: training that feels the rounding of
/// `format`. The gradient passes through unchanged, as in [`super::Quantize`].
#[derive(Clone, Copy, Debug)]
pub struct QuantizeSte {
    /// The weight format.
    pub format: Format,
}

impl Op for QuantizeSte {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("format", Attr::from(self.format.name()))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let out = infer_unary(Self::NAME, inputs)?;
        // Whole blocks only: describing the encoded tensor is the check.
        TensorDesc::new(DType::from_format(self.format), *inputs[0].shape())?;
        Ok(out)
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        cx.set(0, cx.cotangent());
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::RoundTrip(self.format)
    }
}

impl OpKind for QuantizeSte {
    const NAME: &'static str = "quantize_ste";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { format: read_format(attrs)? })
    }

    fn cases() -> Vec<Case> {
        // Not differentiated: finite differences of a staircase are not its estimator.
        let case = |format| Case::new(Self { format });
        let mut cases: Vec<_> =
            Format::ALL.iter().map(|&f| case(f).fixed(&[3, 256], Fill::Normal)).collect();
        cases.push(case(Format::Q4_0).fixed(&[2048, 2048], Fill::Normal).bench());
        cases
    }
}
