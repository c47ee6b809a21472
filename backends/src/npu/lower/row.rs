//! Kernels over rows: norms, softmax, rotations, losses.

use tenon_kernels::row::rope::Layout;
use tenon_runtime::Result;
use tenon_runtime::backend::{Reduction, Row, Signature};

use super::index::one_hot;
use super::{Builder, Checked, no};
use crate::npu::graph::ValueId;
use crate::npu::op::{Binary, Compare, Op, Reduce, Unary};

pub(super) fn lower(
    b: &mut Builder,
    kind: &Row,
    signature: Signature<'_>,
    inputs: &[ValueId],
) -> Result<Vec<ValueId>> {
    match *kind {
        Row::Rope { layout, inverse } => return Ok(vec![rope(b, layout, inverse, inputs)?]),
        Row::CrossEntropy { ignore, reduction } => {
            return loss(b, ignore, reduction, inputs);
        }
        Row::CrossEntropyGrad { ignore, reduction } => {
            return Ok(vec![loss_grad(b, ignore, reduction, inputs)?]);
        }
        _ => {}
    }
    let x = b.rows(inputs[0])?;
    Ok(match *kind {
        Row::Softmax => vec![b.graph.add(Op::Softmax, &[x])?],
        Row::SoftmaxGrad => {
            let dy = b.rows(inputs[1])?;
            let t = b.mul(dy, x)?;
            let sum = b.reduce_last(Reduce::Sum, t)?;
            let rest = b.sub(dy, sum)?;
            vec![b.mul(x, rest)?]
        }
        Row::LogSoftmax => {
            let lse = log_sum(b, x)?;
            vec![b.sub(x, lse)?]
        }
        Row::LogSoftmaxGrad => {
            let dy = b.rows(inputs[1])?;
            let (p, sum) = (b.unary(Unary::Exp, x)?, b.reduce_last(Reduce::Sum, dy)?);
            let t = b.mul(p, sum)?;
            vec![b.sub(dy, t)?]
        }
        Row::RmsNorm { eps } => {
            let (y, rstd) = rms_norm(b, eps, x, inputs[1])?;
            vec![y, rstd]
        }
        Row::AddRmsNorm { eps } => {
            let h = b.rows(inputs[1])?;
            let sum = b.add(x, h)?;
            let (y, rstd) = rms_norm(b, eps, sum, inputs[2])?;
            vec![sum, y, rstd]
        }
        Row::RmsNormGrad => {
            // rstd g - x rstd^3 mean(x g), g = w dy
            let (rstd, dy) = (b.column(inputs[2])?, b.rows(inputs[3])?);
            let g = b.mul(dy, inputs[1])?;
            let hat = b.mul(x, rstd)?;
            vec![toward_normal(b, g, hat, rstd, false)?]
        }
        Row::LayerNorm { eps } => {
            let mean = b.reduce_last(Reduce::Mean, x)?;
            let centred = b.sub(x, mean)?;
            let rstd = rstd(b, eps, centred)?;
            let mut y = b.mul(centred, rstd)?;
            if let Some(&weight) = inputs.get(1) {
                y = b.mul(y, weight)?;
            }
            if let Some(&bias) = inputs.get(2) {
                y = b.add(y, bias)?;
            }
            vec![y, mean, rstd]
        }
        Row::LayerNormGrad => {
            let (mean, rstd) = (b.column(inputs[1])?, b.column(inputs[2])?);
            let mut g = b.rows(inputs[3])?;
            if let Some(&weight) = inputs.get(4) {
                g = b.mul(g, weight)?;
            }
            let centred = b.sub(x, mean)?;
            let hat = b.mul(centred, rstd)?;
            vec![toward_normal(b, g, hat, rstd, true)?]
        }
        _ => return no(&format!("{:?}", signature.launch)),
    })
}

/// `rstd (g - hat mean(hat g))`, without the mean of `g` where the mean was subtracted.
fn toward_normal(
    b: &mut Builder,
    g: ValueId,
    hat: ValueId,
    rstd: ValueId,
    centred: bool,
) -> Result<ValueId> {
    let t = b.mul(hat, g)?;
    let share = b.reduce_last(Reduce::Mean, t)?;
    let along = b.mul(hat, share)?;
    let mut rest = b.sub(g, along)?;
    if centred {
        let mean = b.reduce_last(Reduce::Mean, g)?;
        rest = b.sub(rest, mean)?;
    }
    b.mul(rest, rstd)
}

fn rstd(b: &mut Builder, eps: f32, x: ValueId) -> Result<ValueId> {
    let square = b.mul(x, x)?;
    let mean = b.reduce_last(Reduce::Mean, square)?;
    let mean = b.add_scalar(mean, eps)?;
    b.unary(Unary::Rsqrt, mean)
}

fn rms_norm(b: &mut Builder, eps: f32, x: ValueId, weight: ValueId) -> Result<(ValueId, ValueId)> {
    let rstd = rstd(b, eps, x)?;
    let y = b.mul(x, rstd)?;
    Ok((b.mul(y, weight)?, rstd))
}

/// `ln(sum(e^x))` of each row, [rows, 1].
pub(super) fn log_sum(b: &mut Builder, x: ValueId) -> Result<ValueId> {
    let max = b.reduce_last(Reduce::Max, x)?;
    let rest = b.sub(x, max)?;
    let e = b.unary(Unary::Exp, rest)?;
    let sum = b.reduce_last(Reduce::Sum, e)?;
    let log = b.unary(Unary::Log, sum)?;
    b.add(max, log)
}

/// Heads of [batch, seq, heads, dim], turned by tables of [seq, half].
fn rope(b: &mut Builder, layout: Layout, inverse: bool, inputs: &[ValueId]) -> Result<ValueId> {
    let &[batch, seq, heads, dim] = b.graph.shape(inputs[0]) else { return no("four axes") };
    let half = b.shape(inputs[1])[1];
    let cos = b.reshape(inputs[1], &[1, seq, 1, half])?;
    let sin = b.reshape(inputs[2], &[1, seq, 1, half])?;
    let sin = if inverse { b.unary(Unary::Neg, sin)? } else { sin };
    let x = inputs[0];
    let part = |b: &mut Builder, from: usize, n: usize| {
        b.slice(x, &[0, 0, 0, from], &[batch, seq, heads, n])
    };
    let (first, second) = match layout {
        Layout::Half => (part(b, 0, half)?, part(b, half, half)?),
        Layout::Interleaved => {
            let pairs = part(b, 0, 2 * half)?;
            let pairs = b.reshape(pairs, &[batch * seq, heads, half, 2])?;
            let take = |b: &mut Builder, i: usize| {
                let one = b.slice(pairs, &[0, 0, 0, i], &[batch * seq, heads, half, 1])?;
                b.reshape(one, &[batch, seq, heads, half])
            };
            (take(b, 0)?, take(b, 1)?)
        }
    };
    let (ac, bs) = (b.mul(first, cos)?, b.mul(second, sin)?);
    let (bc, a_s) = (b.mul(second, cos)?, b.mul(first, sin)?);
    let (y, z) = (b.sub(ac, bs)?, b.add(bc, a_s)?);
    let mut parts = match layout {
        Layout::Half => vec![y, z],
        Layout::Interleaved => {
            let shape = [batch * seq, heads, half, 1];
            let (y, z) = (b.reshape(y, &shape)?, b.reshape(z, &shape)?);
            let pairs = b.graph.add(Op::Concat(3), &[y, z])?;
            vec![b.reshape(pairs, &[batch, seq, heads, 2 * half])?]
        }
    };
    if 2 * half < dim {
        parts.push(part(b, 2 * half, dim - 2 * half)?);
    }
    if parts.len() == 1 { Ok(parts[0]) } else { b.graph.add(Op::Concat(3), &parts) }
}

/// 1 for rows that count, else 0: [rows, 1].
fn counted(b: &mut Builder, targets: ValueId, ignore: i32) -> Result<ValueId> {
    let column = b.column(targets)?;
    let ignored = b.graph.integers(&[1, 1], &[ignore])?;
    let mask = b.compare(Compare::Ne, column, ignored)?;
    b.ones_where(mask)
}

/// The number of rows that count, at least 1: [1, 1].
fn count(b: &mut Builder, counted: ValueId) -> Result<ValueId> {
    let sum = b.reduce(Reduce::Sum, &[0], counted)?;
    let one = b.scalar(1.0)?;
    b.binary(Binary::Max, sum, one)
}

fn loss(
    b: &mut Builder,
    ignore: i32,
    reduction: Reduction,
    inputs: &[ValueId],
) -> Result<Vec<ValueId>> {
    let x = b.rows(inputs[0])?;
    let classes = b.shape(x)[1];
    b.checked.push(Checked { value: inputs[1], bound: classes, ignore: Some(ignore) });
    let lse = log_sum(b, x)?;
    let ones = one_hot(b, inputs[1], classes)?;
    let picked = b.mul(x, ones)?;
    let picked = b.reduce_last(Reduce::Sum, picked)?;
    let losses = b.sub(lse, picked)?;
    let counted = counted(b, inputs[1], ignore)?;
    let losses = b.mul(losses, counted)?;
    let loss = match reduction {
        Reduction::None => losses,
        Reduction::Sum => b.reduce(Reduce::Sum, &[0], losses)?,
        Reduction::Mean => {
            let (sum, n) = (b.reduce(Reduce::Sum, &[0], losses)?, count(b, counted)?);
            b.binary(Binary::Div, sum, n)?
        }
    };
    Ok(vec![loss, lse])
}

/// `(softmax(x) - onehot) dloss` of the rows that count.
fn loss_grad(
    b: &mut Builder,
    ignore: i32,
    reduction: Reduction,
    inputs: &[ValueId],
) -> Result<ValueId> {
    let (x, lse) = (b.rows(inputs[0])?, b.column(inputs[2])?);
    let classes = b.shape(x)[1];
    b.checked.push(Checked { value: inputs[1], bound: classes, ignore: Some(ignore) });
    let rest = b.sub(x, lse)?;
    let p = b.unary(Unary::Exp, rest)?;
    let ones = one_hot(b, inputs[1], classes)?;
    let dx = b.sub(p, ones)?;
    let counted = counted(b, inputs[1], ignore)?;
    let dloss = b.column(inputs[3])?;
    let mut scale = b.mul(counted, dloss)?;
    if reduction == Reduction::Mean {
        let n = count(b, counted)?;
        scale = b.binary(Binary::Div, scale, n)?;
    }
    b.mul(dx, scale)
}
