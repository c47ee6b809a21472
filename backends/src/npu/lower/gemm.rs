//! Matrix products.

use tenon_kernels::gemm::{Precision, is_narrow};
use tenon_kernels::quant::Format;
use tenon_runtime::backend::{GemmLaunch, Signature};
use tenon_runtime::{Error, Result};

use super::{Builder, elementwise, no};
use crate::npu::evaluate::computed;
use crate::npu::graph::ValueId;
use crate::npu::op::{Affine, Binary, Op, Reduce, Unary, broadcast};

/// Elements that [`Precision::Int8`] gives one scale.
const BLOCK: usize = 32;
/// The least magnitude that it tells from 0.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// Products of a batch that are made one by one where the target has no batched product.
const MOST_UNROLLED: usize = 64;

pub(super) fn lower(
    b: &mut Builder,
    spec: &GemmLaunch,
    signature: Signature<'_>,
    inputs: &[ValueId],
) -> Result<ValueId> {
    let sums = product(b, spec, signature, inputs)?;
    spec.activation.map_or(Ok(sums), |f| elementwise::unary(b, f, sums))
}

fn product(
    b: &mut Builder,
    spec: &GemmLaunch,
    signature: Signature<'_>,
    inputs: &[ValueId],
) -> Result<ValueId> {
    let (x, w) = (inputs[0], inputs[1]);
    let bias = inputs.get(2).copied();
    let (a, c) = (b.shape(x), b.shape(w));
    let is_matrix = |s: &[usize]| s.len() < 3 || s[..s.len() - 2].iter().all(|&n| n == 1);
    let is_one = spec.fold || is_matrix(&a) && is_matrix(&c);
    let rounds = match spec.precision {
        Precision::F32 => false,
        Precision::Int8 if is_one && !spec.trans_a => true,
        _ => return no("operands rounded in Tenon's own way"),
    };
    if is_one {
        let x = b.rows(x)?;
        let mut x = if spec.trans_a { b.transpose(x, &[1, 0])? } else { x };
        let w = b.rows(w)?;
        let mut w = match (spec.trans_b, rounds) {
            (true, _) => w,
            (_, true) => computed(&mut b.graph, Op::Transpose(vec![1, 0]), &[w])?,
            _ => b.transpose(w, &[1, 0])?,
        };
        if rounds {
            let format = signature.inputs[1].dtype().format().unwrap_or(Format::F32);
            let is_coded = spec.trans_b && format.has_codes();
            // As on the CPU, a product of few rows rounds nothing that codes of B do not meet.
            if is_coded || !is_narrow(b.shape(x)[0], spec.trans_b) {
                x = rounded(b, x)?;
                w = if is_coded { w } else { rounded(b, w)? };
            }
        }
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

/// Rows rounded to codes of 8 bits in blocks of 32, as [`Precision::Int8`] rounds them. Their
/// products are sums of f32: an accelerator that multiplies codes rounds the result to 8 bits, too.
fn rounded(b: &mut Builder, x: ValueId) -> Result<ValueId> {
    let &[rows, k] = b.graph.shape(x) else { return no("rows of a matrix") };
    let block = BLOCK.min(k);
    let padded = k.next_multiple_of(block);
    let affine = Affine { scales: [1.0 / 127.0].into(), zero: 0, axis: None };
    let tiny = b.scalar(TINY)?;
    // What is frozen is rounded here.
    let g = &mut b.graph;
    let mut whole = x;
    if padded > k {
        whole = computed(g, Op::Pad(vec![[0, 0], [0, padded - k]]), &[whole])?;
    }
    whole = computed(g, Op::Reshape(vec![rows * (padded / block), block]), &[whole])?;
    let most = computed(g, Op::Unary(Unary::Abs), &[whole])?;
    let most = computed(g, Op::Reduce { kind: Reduce::Max, axes: vec![1] }, &[most])?;
    let most = computed(g, Op::Binary(Binary::Max), &[most, tiny])?;
    let share = computed(g, Op::Binary(Binary::Div), &[whole, most])?;
    let codes = computed(g, Op::Quantize(affine), &[share])?;
    let share = computed(g, Op::Dequantize, &[codes])?;
    let y = computed(g, Op::Binary(Binary::Mul), &[share, most])?;
    let y = computed(g, Op::Reshape(vec![rows, padded]), &[y])?;
    if padded == k {
        return Ok(y);
    }
    computed(g, Op::Slice { begin: vec![0, 0], size: vec![rows, k] }, &[y])
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
