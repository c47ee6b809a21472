//! `embedding_grad`: sums rows into a table, the gradient of `embedding`.

use super::common::{dtype_is, shape_error};
use super::{Attr, AttrReader, Attrs, Case, Cost, Embedding, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};

/// A table `[rows, D]`, zero or the optional third operand, with row `i` of `dy [ids..., D]` added
/// to row `ids[i]`, in order.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingGrad {
    /// Rows of the table.
    pub rows: usize,
}

/// `dy` and ids, and the table to add to if there is one.
fn operands<'a>(
    inputs: &'a [&'a TensorDesc],
) -> Result<(&'a [&'a TensorDesc; 2], Option<&'a TensorDesc>)> {
    match inputs.split_first_chunk() {
        Some((two, rest)) if rest.len() <= 1 => Ok((two, rest.first().copied())),
        _ => {
            let (op, found) = (EmbeddingGrad::NAME, inputs.len());
            Err(Error::Arity { op, expected: "2 or 3", found })
        }
    }
}

impl Op for EmbeddingGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("rows", Attr::from(self.rows))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let (&[dy, ids], table) = operands(inputs)?;
        dtype_is(Self::NAME, 0, dy, DType::F32, "f32")?;
        dtype_is(Self::NAME, 1, ids, DType::I32, "i32")?;
        match dy.shape().split_last() {
            Some((&width, rest)) if rest == &ids.shape()[..] => {
                let out = TensorDesc::f32(&[self.rows, width])?;
                if table.is_some_and(|table| *table != out) {
                    return Err(shape_error(Self::NAME, inputs, "the table must be [rows, width]"));
                }
                Ok(vec![out])
            }
            _ => Err(shape_error(Self::NAME, inputs, "dy must be [ids..., width]")),
        }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        if cx.wants(0) {
            let gradient = cx.add(Embedding, &[cx.cotangent(), cx.input(1)])?;
            cx.set(0, gradient);
        }
        if cx.input_count() > 2 && cx.wants(2) {
            cx.set(2, cx.cotangent());
        }
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::ScatterAdd
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        // Rows named are read, added to and written; all rows zeroed, or there already.
        let dy = inputs[0];
        let bytes = 3 * dy.bytes() + inputs[1].bytes() + outputs[0].bytes();
        Cost { flops: dy.numel() as f64, bytes: bytes as f64 }
    }
}

impl OpKind for EmbeddingGrad {
    const NAME: &'static str = "embedding_grad";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let rows = attrs.usize_or("rows", 0)?;
        if rows == 0 { Err(attrs.error("rows", "must be at least 1")) } else { Ok(Self { rows }) }
    }

    fn cases() -> Vec<Case> {
        let case = |rows| Case::new(Self { rows });
        vec![
            case(4).f32(&[9, 5]).index(&[9], 4),
            case(3).f32(&[2, 3, 17]).index(&[2, 3], 3),
            case(4).f32(&[9, 5]).index(&[9], 4).f32(&[4, 5]),
            case(49_152).f32(&[256, 576]).index(&[256], 49_152).bench(),
        ]
    }
}
