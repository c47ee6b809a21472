//! Attention as its definition reads: every score, in f64.

use super::Attention;

/// Greatest error of any result, relative to the greatest magnitude in its tensor.
///
/// A sum of `n` rounded products errs by less than `n * 2^-24` of its absolute sum; the rows of
/// the tests have up to 200 terms, and exponentials add one unit in the last place each.
pub const TOLERANCE: f32 = 1e-5;

/// Results of the forward pass.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// `[batch, queries, heads, dim]`.
    pub out: Vec<f32>,
    /// `[batch, heads, queries]`.
    pub lse: Vec<f32>,
}

/// Results of the backward pass, each shaped as what it is the gradient of.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// Of the queries.
    pub dq: Vec<f32>,
    /// Of the keys.
    pub dk: Vec<f32>,
    /// Of the values.
    pub dv: Vec<f32>,
}

/// Tells whether query `i` sees key `j`.
fn sees(shape: &Attention, i: usize, j: usize) -> bool {
    let distance = (i + shape.keys) as i64 - (shape.queries + j) as i64;
    let hidden = shape.causal && distance < 0;
    let far = shape.window.is_some_and(|w| distance.unsigned_abs() as usize >= w);
    !hidden && !far
}

/// Weights of one query over all keys, and its log-sum-exp.
fn weights(
    shape: &Attention,
    q: &[f32],
    k: &[f32],
    mask: Option<&[f32]>,
    (b, h, i): (usize, usize, usize),
) -> (Vec<f64>, f64) {
    let kv = h / (shape.heads / shape.kv_heads);
    let q = &q[shape.offset(b, shape.queries, i, shape.heads, h)..][..shape.dim];
    let score = |j: usize| {
        let k = &k[shape.offset(b, shape.keys, j, shape.kv_heads, kv)..][..shape.dim];
        let added = mask.map_or(0.0, |m| {
            f64::from(m[((b * shape.heads + h) * shape.queries + i) * shape.keys + j])
        });
        if sees(shape, i, j) {
            dot(q, k) * f64::from(shape.scale) + added
        } else {
            f64::NEG_INFINITY
        }
    };
    let scores: Vec<f64> = (0..shape.keys).map(score).collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return (vec![0.0; shape.keys], max);
    }
    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
    (scores.iter().map(|s| (s - max).exp() / sum).collect(), max + sum.ln())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

/// Every query as `(sequence, head, position)`.
fn queries(shape: &Attention) -> impl Iterator<Item = (usize, usize, usize)> {
    let (heads, positions) = (shape.heads, shape.queries);
    (0..shape.batch * heads * positions)
        .map(move |n| (n / positions / heads, n / positions % heads, n % positions))
}

/// The forward pass; `mask`, if any, is `[batch, heads, queries, keys]`.
#[must_use]
pub fn forward(shape: &Attention, q: &[f32], k: &[f32], v: &[f32], mask: Option<&[f32]>) -> Output {
    let mut out = vec![0.0; q.len()];
    let mut lse = Vec::new();
    for (b, h, i) in queries(shape) {
        let (p, log_sum) = weights(shape, q, k, mask, (b, h, i));
        lse.push(log_sum as f32);
        let kv = h / (shape.heads / shape.kv_heads);
        let at = shape.offset(b, shape.queries, i, shape.heads, h);
        for (j, p) in p.iter().enumerate() {
            let v = &v[shape.offset(b, shape.keys, j, shape.kv_heads, kv)..];
            for d in 0..shape.dim {
                out[at + d] += p * f64::from(v[d]);
            }
        }
    }
    Output { out: narrow(&out), lse }
}

/// The backward pass for the output gradient `dout`.
#[must_use]
pub fn backward(
    shape: &Attention,
    [q, k, v, dout]: [&[f32]; 4],
    mask: Option<&[f32]>,
) -> Gradients {
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    for (b, h, i) in queries(shape) {
        let (p, _) = weights(shape, q, k, mask, (b, h, i));
        let kv = h / (shape.heads / shape.kv_heads);
        let at = shape.offset(b, shape.queries, i, shape.heads, h);
        let key = |j: usize| shape.offset(b, shape.keys, j, shape.kv_heads, kv);
        let g = &dout[at..at + shape.dim];
        let dp: Vec<f64> = (0..shape.keys).map(|j| dot(g, &v[key(j)..])).collect();
        let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
        for j in 0..shape.keys {
            let ds = p[j] * (dp[j] - delta) * f64::from(shape.scale);
            for d in 0..shape.dim {
                dq[at + d] += ds * f64::from(k[key(j) + d]);
                dk[key(j) + d] += ds * f64::from(q[at + d]);
                dv[key(j) + d] += p[j] * f64::from(g[d]);
            }
        }
    }
    Gradients { dq: narrow(&dq), dk: narrow(&dk), dv: narrow(&dv) }
}
