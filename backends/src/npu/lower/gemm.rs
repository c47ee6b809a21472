//! Matrix products.

use tenon_kernels::gemm::Precision;
use tenon_runtime::backend::{GemmLaunch, Signature};
use tenon_runtime::{Error, Result};

use super::{Builder, no};
use crate::npu::graph::ValueId;
use crate::npu::op::{Op, broadcast};

/// Products of a batch that are made one by one where the target has no batched product.
const MOST_UNROLLED: usize = 64;

pub(super) fn lower(
    b: &mut Builder,
    spec: &GemmLaunch,
    signature: Signature<'_>,
    inputs: &[ValueId],
) -> Result<ValueId> {
    if spec.precision != Precision::F32 {
        return no("operands rounded in Tenon's own way");
    }
    let (x, w) = (inputs[0], inputs[1]);
    let bias = inputs.get(2).copied();
    let (a, c) = (b.shape(x), b.shape(w));
    let is_matrix = |s: &[usize]| s.len() < 3 || s[..s.len() - 2].iter().all(|&n| n == 1);
    if spec.fold || is_matrix(&a) && is_matrix(&c) {
        let x = b.rows(x)?;
        let x = if spec.trans_a { b.transpose(x, &[1, 0])? } else { x };
        let w = b.rows(w)?;
        let w = if spec.trans_b { w } else { b.transpose(w, &[1, 0])? };
        let operands: Vec<ValueId> = [x, w].into_iter().chain(bias).collect();
        return b.graph.add(Op::Linear, &operands);
    }
    let (lead_a, lead_c) = (&a[..a.len() - 2], &c[..c.len() - 2]);
    let batch = broadcast(lead_a, lead_c).map_err(Error::Graph)?;
    let count: usize = batch.iter().product();
    let x = batched(b, x, &batch, count)?;
    let w = batched(b, w, &batch, count)?;
    let y = matmul(b, x, w, spec.trans_a, spec.trans_b)?;
    debug_assert_eq!(b.graph.ty(y).numel(), signature.outputs[0].numel());
    match bias {
        Some(bias) => b.add(y, bias),
        None => Ok(y),
    }
}

/// A matrix for each product.
fn batched(b: &mut Builder, x: ValueId, batch: &[usize], count: usize) -> Result<ValueId> {
    let shape = b.shape(x);
    let matrix = &shape[shape.len() - 2..];
    let full: Vec<usize> = batch.iter().chain(matrix).copied().collect();
    let x = b.spread(x, &full)?;
    b.reshape(x, &[count, matrix[0], matrix[1]])
}

/// Products of [b, m, k] and [b, k, n], one by one where the target has no better.
pub(super) fn matmul(
    b: &mut Builder,
    x: ValueId,
    y: ValueId,
    trans_a: bool,
    trans_b: bool,
) -> Result<ValueId> {
    let op = Op::MatMul { trans_a, trans_b };
    if b.target.has(&op) {
        return b.graph.add(op, &[x, y]);
    }
    let count = b.shape(x)[0];
    if count > MOST_UNROLLED {
        return no("too many products for a target without batches");
    }
    let mut products = Vec::new();
    for i in 0..count {
        let x = matrix(b, x, i, trans_a)?;
        let y = matrix(b, y, i, !trans_b)?;
        let z = b.graph.add(Op::Linear, &[x, y])?;
        let &[m, n] = b.graph.shape(z) else { return no("a product has two axes") };
        products.push(b.reshape(z, &[1, m, n])?);
    }
    if count == 1 { Ok(products[0]) } else { b.graph.add(Op::Concat(0), &products) }
}

fn matrix(b: &mut Builder, x: ValueId, i: usize, turn: bool) -> Result<ValueId> {
    let shape = b.shape(x);
    let x = b.slice(x, &[i, 0, 0], &[1, shape[1], shape[2]])?;
    let x = b.reshape(x, &shape[1..])?;
    if turn { b.transpose(x, &[1, 0]) } else { Ok(x) }
}
