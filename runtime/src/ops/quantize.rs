//! `quantize`: f32 into a weight format.

use tenon_kernels::quant::Format;

use super::common::{all_f32, arity};
use super::{Attr, AttrReader, Attrs, Case, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::{DType, TensorDesc};

/// `x` encoded in `format`, block by block along the last axis.
///
/// Encoding is a staircase, whose derivative is 0 or does not exist. As its gradient the cotangent
/// of the decoded values passes through unchanged: the straight-through estimator (Bengio, Leonard
/// and Courville, 2013), so that what follows, [`super::Dequantize`] or a product that reads the
/// format, trains what came before.
#[derive(Clone, Copy, Debug)]
pub struct Quantize {
    /// The weight format.
    pub format: Format,
}

/// The attribute `format`.
pub(super) fn read_format(attrs: &mut AttrReader<'_>) -> Result<Format> {
    let name = attrs.str_or("format", "")?;
    Format::from_name(name).ok_or_else(|| {
        let known: Vec<_> = Format::ALL.iter().map(|f| f.name()).collect();
        attrs.error("format", format!("must be one of {}", known.join(", ")))
    })
}

impl Op for Quantize {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("format", Attr::from(self.format.name()))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        Ok(vec![TensorDesc::new(DType::from_format(self.format), *x.shape())?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        cx.set(0, cx.cotangent());
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Quantize(self.format)
    }
}

impl OpKind for Quantize {
    const NAME: &'static str = "quantize";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { format: read_format(attrs)? })
    }

    fn cases() -> Vec<Case> {
        let case = |format| Case::new(Self { format });
        let mut cases: Vec<_> =
            Format::ALL.iter().map(|&f| case(f).fixed(&[3, 256], Fill::Normal)).collect();
        cases.push(case(Format::Q8_0).fixed(&[2048, 2048], Fill::Normal).bench());
        cases
    }
}
