//! Checks and gradient pieces that many ops share.

use super::{MatMul, Mul, ReduceSum, Reshape, Square, Vjp};
use crate::error::{Error, Result};
use crate::graph::ValueId;
use crate::tensor::{DType, Shape, TensorDesc};

/// Refuses any number of operands but `N`, and gives them as an array.
///
/// # Errors
/// [`Error::Arity`].
pub fn arity<'a, const N: usize>(
    op: &'static str,
    inputs: &[&'a TensorDesc],
) -> Result<[&'a TensorDesc; N]> {
    count(op, inputs, N)?;
    inputs.try_into().map_err(|_| shape_error(op, inputs, "takes another number of operands"))
}

/// Refuses any number of operands but `wanted`.
///
/// # Errors
/// [`Error::Arity`].
pub fn count(op: &'static str, inputs: &[&TensorDesc], wanted: usize) -> Result<()> {
    const WORDS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    if inputs.len() == wanted {
        return Ok(());
    }
    let expected = WORDS.get(wanted).copied().unwrap_or("more");
    Err(Error::Arity { op, expected, found: inputs.len() })
}

/// Refuses operands that are not f32.
///
/// # Errors
/// [`Error::DType`] naming the first.
pub fn all_f32(op: &'static str, inputs: &[&TensorDesc]) -> Result<()> {
    for (operand, desc) in inputs.iter().enumerate() {
        dtype_is(op, operand, desc, DType::F32, "f32 (insert a cast)")?;
    }
    Ok(())
}

/// Refuses an operand of another element type.
///
/// # Errors
/// [`Error::DType`].
pub fn dtype_is(
    op: &'static str,
    operand: usize,
    desc: &TensorDesc,
    wanted: DType,
    expected: &'static str,
) -> Result<()> {
    if desc.dtype() == wanted {
        Ok(())
    } else {
        Err(Error::DType { op, operand, expected, found: desc.dtype() })
    }
}

/// An [`Error::Shape`] over all operands.
#[must_use]
pub fn shape_error(op: &'static str, inputs: &[&TensorDesc], why: impl Into<String>) -> Error {
    Error::Shape { op, why: why.into(), shapes: inputs.iter().map(|d| *d.shape()).collect() }
}

/// One f32 operand, an output of the same shape.
///
/// # Errors
/// [`Error::Arity`], [`Error::DType`].
pub fn infer_unary(op: &'static str, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
    let [x] = arity(op, inputs)?;
    all_f32(op, inputs)?;
    Ok(vec![x.clone()])
}

/// f32 operands that broadcast together; the output has the common shape.
///
/// # Errors
/// [`Error::DType`], [`Error::Shape`].
pub fn infer_broadcast(op: &'static str, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
    all_f32(op, inputs)?;
    let shape = inputs
        .iter()
        .try_fold(Shape::SCALAR, |shape, d| shape.broadcast(d.shape()))
        .ok_or_else(|| shape_error(op, inputs, "shapes do not broadcast"))?;
    Ok(vec![TensorDesc::new(DType::F32, shape)?])
}

/// Axis numbers below `rank`, sorted and unique, from numbers that may count from the end.
///
/// # Errors
/// [`Error::Attr`] for an axis outside the rank or named twice.
pub fn normalize_axes(op: &'static str, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    let error = |why| Error::Attr { op: op.to_owned(), name: "axes".to_owned(), why };
    let mut out = Vec::with_capacity(axes.len());
    for &axis in axes {
        let positive = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(positive) {
            Ok(a) if a < rank => out.push(a),
            _ => return Err(error(format!("names axis {axis} of a tensor of rank {rank}"))),
        }
    }
    out.sort_unstable();
    if out.windows(2).any(|w| w[0] == w[1]) {
        return Err(error("names an axis twice".to_owned()));
    }
    Ok(out)
}

/// Sums a tensor over all axes but the first.
///
/// # Errors
/// Only those of the ops it adds.
pub fn sum_samples(cx: &mut Vjp<'_>, x: ValueId) -> Result<ValueId> {
    let axes = (1..cx.desc(x).shape().len() as i64).collect();
    cx.add(ReduceSum { axes, keepdims: false }, &[x])
}

/// For each sample, the squared L2 norm of `sum over rows of a^T b`: the gradient of a product, as
/// `sum over pairs of rows of (a a^T) (b b^T)` where that is less (Goodfellow, "Efficient
/// Per-Example Gradient Computations", 2015; Li et al., "Large Language Models Can Be Strong
/// Differentially Private Learners", 2022). Operands: [samples, rows, ...].
///
/// # Errors
/// Only those of the ops it adds.
pub fn outer_norms(cx: &mut Vjp<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (rows, m, n) = (cx.desc(a).shape()[1], cx.desc(a).cols(), cx.desc(b).cols());
    let product = MatMul::default();
    let of_pairs = if rows.saturating_mul(2 * rows) < m.saturating_mul(n) {
        let pairs = |cx: &mut Vjp<'_>, x| cx.add(product.with(false, true), &[x, x]);
        let (a, b) = (pairs(cx, a)?, pairs(cx, b)?);
        cx.add(Mul, &[a, b])?
    } else {
        let gradient = cx.add(product.with(true, false), &[a, b])?;
        cx.add(Square, &[gradient])?
    };
    sum_samples(cx, of_pairs)
}

/// Sums a gradient over the axes along which an operand of `shape` was broadcast.
///
/// # Errors
/// Only those of the ops it adds.
pub fn unbroadcast(cx: &mut Vjp<'_>, gradient: ValueId, shape: &Shape) -> Result<ValueId> {
    let from = *cx.desc(gradient).shape();
    if from == *shape {
        return Ok(gradient);
    }
    let extra = from.len() - shape.len();
    let axes: Vec<i64> = (0..from.len())
        .filter(|&i| i < extra || (shape[i - extra] == 1 && from[i] != 1))
        .map(|i| i as i64)
        .collect();
    let summed = if axes.is_empty() {
        gradient
    } else {
        cx.add(ReduceSum { axes, keepdims: true }, &[gradient])?
    };
    cx.add(Reshape { shape: shape.iter().map(|&d| d as i64).collect() }, &[summed])
}
