//! Attention, forward and backward, as the products that it is made of.

use tenon_kernels::attention::Attention;
use tenon_runtime::{Error, Result};

use super::gemm::matmul;
use super::{Builder, MOST_MADE, no};
use crate::npu::graph::ValueId;
use crate::npu::op::{Binary, Compare, Reduce, Unary};

/// What hides a key; far below every score, and `e` to it is 0.
const HIDDEN: f32 = -1e9;

/// `q, k, v` and perhaps a mask to `out, lse`.
pub(super) fn forward(
    b: &mut Builder,
    shape: &Attention,
    inputs: &[ValueId],
) -> Result<Vec<ValueId>> {
    let heads = Heads::new(b, shape, inputs)?;
    let scores = heads.scores(b)?;
    let lse = super::row::log_sum(b, scores)?;
    let p = heads.shares(b, scores, lse)?;
    let out = matmul(b, p, heads.v, false, false)?;
    let out = heads.to_positions(b, out, shape.queries, shape.heads)?;
    Ok(vec![out, lse])
}

/// `q, k, v, out, dout, lse` and perhaps the mask to `dq, dk, dv`.
pub(super) fn backward(
    b: &mut Builder,
    shape: &Attention,
    inputs: &[ValueId],
) -> Result<Vec<ValueId>> {
    let operands: Vec<ValueId> = inputs[..3].iter().chain(inputs.get(6)).copied().collect();
    let heads = Heads::new(b, shape, &operands)?;
    let out = heads.by_head(b, inputs[3], shape.queries, shape.heads)?;
    let dout = heads.by_head(b, inputs[4], shape.queries, shape.heads)?;
    let lse = b.reshape(inputs[5], &[shape.batch * shape.heads, shape.queries, 1])?;
    let scores = heads.scores(b)?;
    let p = heads.shares(b, scores, lse)?;
    let dv = matmul(b, p, dout, true, false)?;
    let dp = matmul(b, dout, heads.v, false, true)?;
    let both = b.mul(dout, out)?;
    let delta = b.reduce_last(Reduce::Sum, both)?;
    let change = b.sub(dp, delta)?;
    let ds = b.mul(p, change)?;
    let ds = b.scale(ds, shape.scale)?;
    let dq = matmul(b, ds, heads.k, false, false)?;
    let dk = matmul(b, ds, heads.q, true, false)?;
    Ok(vec![
        heads.to_positions(b, dq, shape.queries, shape.heads)?,
        heads.sum_shared(b, dk)?,
        heads.sum_shared(b, dv)?,
    ])
}

fn no_operands() -> Error {
    Error::Graph("no lowering: attention without operands".to_owned())
}

/// Operands by head: [batch x heads, positions, dim].
struct Heads<'a> {
    shape: &'a Attention,
    q: ValueId,
    k: ValueId,
    v: ValueId,
    /// Added to the scores: of four axes, each 1 or whole.
    mask: Option<ValueId>,
}

impl<'a> Heads<'a> {
    fn new(b: &mut Builder, shape: &'a Attention, inputs: &[ValueId]) -> Result<Self> {
        let (&[q, k, v], rest) = inputs.split_first_chunk().ok_or_else(no_operands)?;
        let mut mask = None;
        if let Some(&given) = rest.first() {
            let own = b.shape(given);
            let axes = [&[1, 1, 1, 1][own.len()..], &own].concat();
            let given = b.reshape(given, &axes)?;
            // No infinities: their differences are no numbers.
            let least = b.scalar(HIDDEN)?;
            mask = Some(b.binary(Binary::Max, given, least)?);
        }
        let mut heads = Self { shape, q, k, v, mask };
        heads.q = heads.by_head(b, q, shape.queries, shape.heads)?;
        heads.k = heads.shared(b, k)?;
        heads.v = heads.shared(b, v)?;
        Ok(heads)
    }

    /// [batch, positions, heads, dim] by head.
    fn by_head(&self, b: &mut Builder, x: ValueId, n: usize, heads: usize) -> Result<ValueId> {
        let Attention { batch, dim, .. } = *self.shape;
        let x = b.reshape(x, &[batch, n, heads, dim])?;
        let x = b.transpose(x, &[0, 2, 1, 3])?;
        b.reshape(x, &[batch * heads, n, dim])
    }

    /// And back.
    fn to_positions(&self, b: &mut Builder, x: ValueId, n: usize, heads: usize) -> Result<ValueId> {
        let Attention { batch, dim, .. } = *self.shape;
        let x = b.reshape(x, &[batch, heads, n, dim])?;
        b.transpose(x, &[0, 2, 1, 3])
    }

    /// Keys or values, repeated for the query heads that share them.
    fn shared(&self, b: &mut Builder, x: ValueId) -> Result<ValueId> {
        let Attention { batch, keys, heads, kv_heads, dim, .. } = *self.shape;
        let x = self.by_head(b, x, keys, kv_heads)?;
        let x = b.reshape(x, &[batch * kv_heads, 1, keys * dim])?;
        let x = b.tile(x, &[1, heads / kv_heads, 1])?;
        b.reshape(x, &[batch * heads, keys, dim])
    }

    /// Their gradients, added up again.
    fn sum_shared(&self, b: &mut Builder, x: ValueId) -> Result<ValueId> {
        let Attention { batch, keys, heads, kv_heads, dim, .. } = *self.shape;
        let group = heads / kv_heads;
        let mut x = x;
        if group > 1 {
            x = b.reshape(x, &[batch * kv_heads, group, keys * dim])?;
            x = b.reduce(Reduce::Sum, &[1], x)?;
        }
        self.to_positions(b, x, keys, kv_heads)
    }

    /// What each key has of the sum of `e` to the scores; nothing where a mask hides all of them.
    fn shares(&self, b: &mut Builder, scores: ValueId, lse: ValueId) -> Result<ValueId> {
        if self.mask.is_none() {
            let rest = b.sub(scores, lse)?;
            return b.unary(Unary::Exp, rest);
        }
        let least = b.scalar(HIDDEN)?;
        let lse = b.binary(Binary::Max, lse, least)?;
        let rest = b.sub(scores, lse)?;
        let p = b.unary(Unary::Exp, rest)?;
        let most = b.reduce_last(Reduce::Max, scores)?;
        let bound = b.scalar(HIDDEN / 2.0)?;
        let seen = b.compare(Compare::Gt, most, bound)?;
        let seen = b.ones_where(seen)?;
        b.mul(p, seen)
    }

    /// Scaled scores, with what is hidden far below.
    fn scores(&self, b: &mut Builder) -> Result<ValueId> {
        let Attention { batch, queries, keys, heads, causal, window, scale, .. } = *self.shape;
        let scores = matmul(b, self.q, self.k, false, true)?;
        let mut scores = b.scale(scores, scale)?;
        if let Some(mask) = self.mask {
            scores = b.reshape(scores, &[batch, heads, queries, keys])?;
            scores = b.add(scores, mask)?;
            scores = b.reshape(scores, &[batch * heads, queries, keys])?;
        }
        if !causal && window.is_none() {
            return Ok(scores);
        }
        if queries * keys > MOST_MADE {
            return no("a mask that is too large");
        }
        let sees = |i: usize, j: usize| {
            let distance = (i + keys) as i64 - (queries + j) as i64;
            let far = window.is_some_and(|w| distance.unsigned_abs() >= w as u64);
            !(far || causal && distance < 0)
        };
        if (0..queries).any(|i| !(0..keys).any(|j| sees(i, j))) {
            return no("queries that see no key");
        }
        let all = (0..queries).flat_map(|i| (0..keys).map(move |j| (i, j)));
        let mask: Vec<f32> = all.map(|(i, j)| if sees(i, j) { 0.0 } else { HIDDEN }).collect();
        let mask = b.graph.floats(&[1, queries, keys], &mask)?;
        b.add(scores, mask)
    }
}
