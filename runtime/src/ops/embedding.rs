//! `embedding`: rows of a table by number.

use super::common::{arity, dtype_is, shape_error, sum_samples};
use super::{
    AttrReader, Case, Cast, Cost, EmbeddingGrad, Eq, Fill, MatMul, Mul, Op, OpKind, Reshape,
    Tolerance, Vjp,
};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::graph::ValueId;
use crate::tensor::{DType, Shape, TensorDesc};

/// Rows `ids` (i32, any shape) of `table [V, D]`, as f32 `[ids..., D]`.
///
/// The table may be f32, f16, bf16 or block-quantized: its rows are decoded as they are read. An id
/// outside `0..V` is [`Error::Index`] when the op runs. The gradient toward the table is
/// [`EmbeddingGrad`].
#[derive(Clone, Copy, Debug)]
pub struct Embedding;

impl Op for Embedding {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [table, ids] = arity(Self::NAME, inputs)?;
        dtype_is(Self::NAME, 1, ids, DType::I32, "i32")?;
        if table.dtype().format().is_none() {
            let expected = "f32, f16, bf16 or a quantized type";
            let found = table.dtype();
            return Err(Error::DType { op: Self::NAME, operand: 0, expected, found });
        }
        let &[_, width] = &table.shape()[..] else {
            return Err(shape_error(Self::NAME, inputs, "the table must be [rows, width]"));
        };
        let dims: Vec<_> = ids.shape().iter().copied().chain([width]).collect();
        Ok(vec![TensorDesc::new(DType::F32, Shape::new(&dims)?)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        if cx.wants(0) {
            let rows = cx.desc(cx.input(0)).shape()[0];
            let gradient = cx.add(EmbeddingGrad { rows }, &[cx.cotangent(), cx.input(1)])?;
            cx.set(0, gradient);
        }
        Ok(())
    }

    /// The sum over pairs of positions with one id of the products of their cotangents.
    fn sample_norms(
        &self,
        cx: &mut Vjp<'_>,
        wrt: usize,
        samples: usize,
    ) -> Result<Option<ValueId>> {
        // Ids are compared as f32, which has no more whole numbers in a row.
        if wrt != 0 || cx.desc(cx.input(0)).rows() > 1 << 24 {
            return Ok(None);
        }
        let dy = cx.desc(cx.cotangent());
        let positions = dy.rows() / samples;
        let dy = cx.add(Reshape::to(&[samples, positions, dy.cols()]), &[cx.cotangent()])?;
        let products = cx.add(MatMul { trans_b: true, ..MatMul::default() }, &[dy, dy])?;
        let ids = cx.add(Cast { dtype: DType::F32 }, &[cx.input(1)])?;
        let column = cx.add(Reshape::to(&[samples, positions, 1]), &[ids])?;
        let row = cx.add(Reshape::to(&[samples, 1, positions]), &[ids])?;
        let same = cx.add(Eq, &[column, row])?;
        let products = cx.add(Mul, &[products, same])?;
        Ok(Some(sum_samples(cx, products)?))
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Gather
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        // Only the rows named are read.
        let (table, ids) = (inputs[0], inputs[1]);
        let row = table.bytes() as f64 / table.rows().max(1) as f64;
        let read = row * ids.numel() as f64 + ids.bytes() as f64;
        Cost { flops: 0.0, bytes: read + outputs[0].bytes() as f64 }
    }
}

impl OpKind for Embedding {
    const NAME: &'static str = "embedding";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        use tenon_kernels::quant::Format;
        let mut cases = vec![
            Case::new(Self).f32(&[7, 5]).index(&[2, 3], 7),
            Case::new(Self).f32(&[3, 16]).index(&[], 3),
            Case::new(Self).f32(&[49_152, 576]).index(&[1, 256], 49_152).bench(),
        ];
        cases.extend(Format::ALL.iter().filter(|&&f| f != Format::F32).map(|&format| {
            let table = DType::from_format(format);
            Case::new(Self).typed(table, &[5, 256], Fill::Normal).index(&[4], 5)
        }));
        cases
    }
}
