//! `cast`: another element type.

use super::common::arity;
use super::{Attr, AttrReader, Attrs, Case, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};

/// The same values in `dtype`, between f32, f16, bf16, i8, u8 and i32 with f32 on one side.
///
/// To f16 and bf16 values are rounded to nearest even; to integers they are cut toward zero and
/// limited to the type's range, and NaN becomes 0. Between floats the gradient is cast back; through
/// integers there is none.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// The type of the output.
    pub dtype: DType,
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("dtype", Attr::from(self.dtype.name()))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        let quantized = matches!(x.dtype(), DType::Quant(_));
        if quantized || x.dtype() != DType::F32 && self.dtype != DType::F32 {
            let expected =
                if quantized { "an unquantized type (see `dequantize`)" } else { "f32" };
            return Err(Error::DType { op: Self::NAME, operand: 0, expected, found: x.dtype() });
        }
        Ok(vec![TensorDesc::new(self.dtype, *x.shape())?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let from = cx.desc(cx.input(0)).dtype();
        if is_float(from) && is_float(self.dtype) {
            let gradient = cx.add(Self { dtype: from }, &[cx.cotangent()])?;
            cx.set(0, gradient);
        }
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Cast
    }
}

impl OpKind for Cast {
    const NAME: &'static str = "cast";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let choices = [DType::F32, DType::F16, DType::BF16, DType::I8, DType::I32, DType::U8];
        Ok(Self { dtype: attrs.choice("dtype", &choices.map(|t| (t.name(), t)))? })
    }

    fn cases() -> Vec<Case> {
        let to = |dtype| Case::new(Self { dtype });
        let range = Fill::Uniform(-200.0, 300.0);
        vec![
            to(DType::F32).f32(&[3, 5]),
            to(DType::F16).fixed(&[67], Fill::Normal),
            to(DType::BF16).fixed(&[67], Fill::Normal),
            to(DType::I8).fixed(&[67], range.clone()),
            to(DType::U8).fixed(&[67], range.clone()),
            to(DType::I32).fixed(&[67], range),
            to(DType::F32).typed(DType::F16, &[67], Fill::Normal),
            to(DType::F32).typed(DType::BF16, &[67], Fill::Normal),
            to(DType::F32).typed(DType::I32, &[67], Fill::Index(1000)),
            to(DType::BF16).fixed(&[1 << 22], Fill::Normal).bench_rows(),
        ]
    }
}
