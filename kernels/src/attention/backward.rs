//! The backward pass, by recomputation.
//!
//! With `p = exp(s - lse)` and `ds = p * (dout . v - delta)`, where `delta = sum(dout * out)`:
//! `dq = scale * ds k`, `dk = scale * ds^T q`, `dv = p^T dout`. Two steps: [`grad_query`] has the
//! queries in its lanes, [`grad_key_value`] the keys. Scores are computed twice, which costs two
//! of seven products and saves every reduction across tasks.

use super::block::{FLOOR, Rows, Sight, chunks, clear, unpack};
use super::{Attention, BLOCK, CHUNK, Mask};
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;
use crate::simd::math::exp;

/// What the backward pass reads and writes; shapes as [`Attention`] says.
#[derive(Clone, Copy, Debug)]
pub struct Backward {
    /// The shape.
    pub shape: Attention,
    /// Queries.
    pub q: *const f32,
    /// Keys.
    pub k: *const f32,
    /// Values.
    pub v: *const f32,
    /// Added to the scores.
    pub mask: Option<Mask>,
    /// Output of the forward pass.
    pub out: *const f32,
    /// Gradient of that output.
    pub dout: *const f32,
    /// Log-sum-exp from the forward pass.
    pub lse: *const f32,
    /// Workspace of [`Attention::delta_len`] f32, written by [`grad_query`].
    pub delta: *mut f32,
    /// Gradient of the queries.
    pub dq: *mut f32,
    /// Gradient of the keys.
    pub dk: *mut f32,
    /// Gradient of the values.
    pub dv: *mut f32,
}

// SAFETY: addresses only; using them is the contract of the functions that take them.
unsafe impl Sync for Backward {}

/// Runs one of [`Attention::query_tasks`] tasks: `dq` and `delta` of a block of queries.
///
/// # Safety
/// The pointers of `args` must be valid for its shape, what is written overlap nothing else,
/// `task` be in range and run once, and `scratch` hold [`Attention::backward_scratch`] f32.
pub unsafe fn grad_query(isa: Isa, args: &Backward, task: usize, scratch: &mut [f32]) {
    debug_assert!(scratch.len() >= args.shape.backward_scratch());
    isa.run(QueryTask { args, task, scratch: scratch.as_mut_ptr() });
}

/// Runs one of [`Attention::key_tasks`] tasks: `dk` and `dv` of a block of keys.
///
/// # Safety
/// As for [`grad_query`], all of whose tasks must have ended.
pub unsafe fn grad_key_value(isa: Isa, args: &Backward, task: usize, scratch: &mut [f32]) {
    debug_assert!(scratch.len() >= args.shape.backward_scratch());
    isa.run(KeyTask { args, task, scratch: scratch.as_mut_ptr() });
}

struct QueryTask<'a> {
    args: &'a Backward,
    task: usize,
    scratch: *mut f32,
}

impl Kernel for QueryTask<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { args, task, scratch } = self;
        let shape = &args.shape;
        let dim = shape.dim;
        let (batch, head, first) = Attention::place(task, shape.heads, shape.queries);
        let count = BLOCK.min(shape.queries - first);
        let group = head / (shape.heads / shape.kv_heads);
        let mask = args.mask.map(|m| m.of_head(batch, head));
        let q_at = shape.offset(batch, shape.queries, first, shape.heads, head);
        let q_stride = shape.heads * dim;
        let kv_stride = shape.kv_heads * dim;
        let row = (batch * shape.heads + head) * shape.queries + first;

        let query = scratch;
        let dout = query.wrapping_add(dim * BLOCK);
        let dq = dout.wrapping_add(dim * BLOCK);
        let scores = dq.wrapping_add(dim * BLOCK);
        let dscores = scores.wrapping_add(CHUNK * BLOCK);
        // SAFETY: `grad_query`'s contract: every offset lies inside the shape or the scratch.
        unsafe {
            let q = Rows { data: args.q.add(q_at), stride: q_stride, dim };
            let g = Rows { data: args.dout.add(q_at), stride: q_stride, dim };
            q.pack(s, count, shape.scale, query);
            g.pack(s, count, 1.0, dout);
            clear(s, dim, dq);
            let mut lse = [f32::INFINITY; BLOCK];
            let mut delta = [0.0; BLOCK];
            for i in 0..count {
                lse[i] = finite_lse(*args.lse.add(row + i));
                let at = q_at + i * q_stride;
                delta[i] = row_dot(s, args.dout.add(at), args.out.add(at), dim);
                *args.delta.add(row + i) = delta[i];
            }
            for (key, keys) in chunks(shape.keys_seen(first, first + count)) {
                let at = shape.offset(batch, shape.keys, key, shape.kv_heads, group);
                let k = Rows { data: args.k.add(at), stride: kv_stride, dim };
                let v = Rows { data: args.v.add(at), stride: kv_stride, dim };
                k.dot(s, keys, query, scores);
                Sight::of_queries(shape, first, key, mask).apply(s, keys, count, scores);
                v.dot(s, keys, dout, dscores);
                for lane in (0..BLOCK).step_by(S::LANES) {
                    let lse = s.load(lse.as_ptr().add(lane));
                    let delta = s.load(delta.as_ptr().add(lane));
                    for at in (0..keys).map(|r| r * BLOCK + lane) {
                        let p = exp(s, s.sub(s.load(scores.add(at)), lse));
                        let dp = s.sub(s.load(dscores.add(at)), delta);
                        s.store(dscores.add(at), s.mul(p, dp));
                    }
                }
                k.weigh(s, keys, dscores, dq);
            }
            unpack(s, dq, &[shape.scale; BLOCK], count, args.dq.add(q_at), q_stride, dim);
        }
    }
}

struct KeyTask<'a> {
    args: &'a Backward,
    task: usize,
    scratch: *mut f32,
}

impl Kernel for KeyTask<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { args, task, scratch } = self;
        let shape = &args.shape;
        let dim = shape.dim;
        let (batch, group, first) = Attention::place(task, shape.kv_heads, shape.keys);
        let count = BLOCK.min(shape.keys - first);
        let kv_at = shape.offset(batch, shape.keys, first, shape.kv_heads, group);
        let kv_stride = shape.kv_heads * dim;

        let tile = KeyTile {
            key: scratch,
            value: scratch.wrapping_add(dim * BLOCK),
            dk: scratch.wrapping_add(2 * dim * BLOCK),
            dv: scratch.wrapping_add(3 * dim * BLOCK),
            scores: scratch.wrapping_add(4 * dim * BLOCK),
        };
        // SAFETY: `grad_key_value`'s contract: every offset lies inside the shape or the scratch.
        unsafe {
            let k = Rows { data: args.k.add(kv_at), stride: kv_stride, dim };
            let v = Rows { data: args.v.add(kv_at), stride: kv_stride, dim };
            k.pack(s, count, shape.scale, tile.key);
            v.pack(s, count, 1.0, tile.value);
            clear(s, 2 * dim, tile.dk);
            let per_group = shape.heads / shape.kv_heads;
            for head in group * per_group..(group + 1) * per_group {
                for (query, queries) in chunks(shape.queries_seeing(first, first + count)) {
                    tile.absorb(s, args, (batch, head), (query, queries), (first, count));
                }
            }
            unpack(s, tile.dk, &[shape.scale; BLOCK], count, args.dk.add(kv_at), kv_stride, dim);
            unpack(s, tile.dv, &[1.0; BLOCK], count, args.dv.add(kv_at), kv_stride, dim);
        }
    }
}

/// A block of keys and values with their gradients, `[dim][BLOCK]` each, and room for scores.
#[derive(Clone, Copy)]
struct KeyTile {
    key: *mut f32,
    value: *mut f32,
    dk: *mut f32,
    dv: *mut f32,
    scores: *mut f32,
}

impl KeyTile {
    /// Adds what `queries` positions from `query` on of one head contribute.
    ///
    /// # Safety
    /// The tile's buffers must be valid, and the positions inside the shape of `args`.
    #[inline(always)]
    unsafe fn absorb<S: Simd>(
        self,
        s: S,
        args: &Backward,
        (batch, head): (usize, usize),
        (query, queries): (usize, usize),
        (key, keys): (usize, usize),
    ) {
        let shape = &args.shape;
        let at = shape.offset(batch, shape.queries, query, shape.heads, head);
        let row = (batch * shape.heads + head) * shape.queries + query;
        let mask = args.mask.map(|m| m.of_head(batch, head));
        let stride = shape.heads * shape.dim;
        let dscores = self.scores.wrapping_add(CHUNK * BLOCK);
        // SAFETY: the caller's contract.
        unsafe {
            let q = Rows { data: args.q.add(at), stride, dim: shape.dim };
            let g = Rows { data: args.dout.add(at), stride, dim: shape.dim };
            q.dot(s, queries, self.key, self.scores);
            Sight::of_keys(shape, query, key, mask).apply(s, queries, keys, self.scores);
            g.dot(s, queries, self.value, dscores);
            for i in 0..queries {
                let lse = s.splat(finite_lse(*args.lse.add(row + i)));
                let delta = s.splat(*args.delta.add(row + i));
                for at in (i * BLOCK..(i + 1) * BLOCK).step_by(S::LANES) {
                    let p = exp(s, s.sub(s.load(self.scores.add(at)), lse));
                    s.store(self.scores.add(at), p);
                    let dp = s.sub(s.load(dscores.add(at)), delta);
                    s.store(dscores.add(at), s.mul(p, dp));
                }
            }
            g.weigh(s, queries, self.scores, self.dv);
            q.weigh(s, queries, dscores, self.dk);
        }
    }
}

/// A query that saw no key must weigh nothing: its `exp(score - lse)` becomes `exp(-inf)`.
#[inline(always)]
fn finite_lse(lse: f32) -> f32 {
    if lse > FLOOR { lse } else { f32::INFINITY }
}

/// `sum(a * b)` over `n` values.
///
/// # Safety
/// Both must be valid for reading `n` f32.
#[inline(always)]
unsafe fn row_dot<S: Simd>(s: S, a: *const f32, b: *const f32, n: usize) -> f32 {
    let mut acc = s.zero();
    let whole = n / S::LANES * S::LANES;
    // SAFETY: the caller's contract.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            acc = s.fma(s.load(a.add(i)), s.load(b.add(i)), acc);
        }
        if whole < n {
            let tail = n - whole;
            acc = s.fma(s.load_n(a.add(whole), tail), s.load_n(b.add(whole), tail), acc);
        }
    }
    s.sum(acc)
}
