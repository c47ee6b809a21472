//! The backward pass, by recomputation.
//!
//! With `p = exp(s - lse)` and `ds = p * (dout . v - delta)`, where `delta = sum(dout * out)`:
//! `dq = scale * ds k`, `dk = scale * ds^T q`, `dv = p^T dout`. A task of [`grad_head`] owns a query
//! head, so that one walk over its blocks of keys, which lie in the lanes, gives all three by five
//! products. Where heads share keys, [`sum_heads`] then adds up what each contributed.

use std::ops::Range;

use super::block::{FLOOR, LOG2_E, Rows, Sight, chunks, clear, unpack};
use super::{Attention, BLOCK, CHUNK, Mask};

use crate::isa::{Isa, Kernel};
use crate::product::{Nest, Product};
use crate::simd::Simd;
use crate::simd::math::exp2_below;

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
    /// Workspace of [`Attention::parts_len`] f32.
    pub parts: *mut f32,
    /// Gradient of the queries.
    pub dq: *mut f32,
    /// Gradient of the keys.
    pub dk: *mut f32,
    /// Gradient of the values.
    pub dv: *mut f32,
}

// SAFETY: addresses only; using them is the contract of the functions that take them.
unsafe impl Sync for Backward {}

/// Runs one of [`Attention::head_tasks`] tasks: `dq` of a query head, and what it adds to `dk` and
/// `dv`.
///
/// # Safety
/// The pointers of `args` must be valid for its shape, what is written overlap nothing else,
/// `task` be in range and run once, and `scratch` hold [`Attention::backward_scratch`] f32.
pub unsafe fn grad_head(isa: Isa, args: &Backward, task: usize, scratch: &mut [f32]) {
    debug_assert!(scratch.len() >= args.shape.backward_scratch());
    isa.run(HeadTask { args, task, scratch: scratch.as_mut_ptr() });
}

/// Runs one of [`Attention::sum_tasks`] tasks: `dk` and `dv` of a block of shared keys, from its
/// heads in order.
///
/// # Safety
/// As for [`grad_head`], all of whose tasks must have ended.
pub unsafe fn sum_heads(isa: Isa, args: &Backward, task: usize) {
    isa.run(SumTask { args, task });
}

/// Where a head's part of the gradients of keys and values goes: from row to row, and the rows.
struct Parts {
    stride: usize,
    dk: *mut f32,
    dv: *mut f32,
}

impl Backward {
    /// The part of a query head: rows of the workspace where others share the keys.
    fn parts(&self, batch: usize, head: usize) -> Parts {
        let shape = &self.shape;
        if shape.shares_keys() {
            let at = (batch * shape.heads + head) * shape.keys * shape.dim;
            let dk = self.parts.wrapping_add(at);
            Parts { stride: shape.dim, dk, dv: dk.wrapping_add(shape.parts_len() / 2) }
        } else {
            let at = shape.offset(batch, shape.keys, 0, shape.kv_heads, head);
            let stride = shape.kv_heads * shape.dim;
            Parts { stride, dk: self.dk.wrapping_add(at), dv: self.dv.wrapping_add(at) }
        }
    }
}

struct HeadTask<'a> {
    args: &'a Backward,
    task: usize,
    scratch: *mut f32,
}

impl Kernel for HeadTask<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { args, task, scratch } = self;
        let shape = &args.shape;
        let (dim, queries) = (shape.dim, shape.queries);
        let (batch, head) = (task / shape.heads, task % shape.heads);
        let group = head / (shape.heads / shape.kv_heads);
        let q_at = shape.offset(batch, queries, 0, shape.heads, head);
        let buffers = shape.key_blocks() * Block::len(shape);
        let head = Head {
            shape,
            mask: args.mask.map(|m| m.of_head(batch, head)),
            parts: args.parts(batch, head),
            q: args.q.wrapping_add(q_at),
            dout: args.dout.wrapping_add(q_at),
            dq: args.dq.wrapping_add(q_at),
            stride: shape.heads * dim,
            scores: scratch.wrapping_add(buffers),
            lse: scratch.wrapping_add(buffers + 2 * CHUNK * BLOCK),
            delta: scratch.wrapping_add(buffers + 2 * CHUNK * BLOCK + queries),
        };
        let k = Rows::of_head(args.k, shape.kv_heads, group, batch * shape.keys, dim);
        let v = Rows::of_head(args.v, shape.kv_heads, group, batch * shape.keys, dim);
        // SAFETY: `grad_head`'s contract: every offset lies inside the shape or the scratch.
        unsafe {
            let out = args.out.add(q_at);
            let lse = args.lse.add(task * queries);
            for i in 0..queries {
                let row = i * head.stride;
                *head.lse.add(i) = finite_lse(*lse.add(i)) * LOG2_E;
                *head.delta.add(i) = row_dot(s, head.dout.add(row), out.add(row), dim);
                std::slice::from_raw_parts_mut(head.dq.add(row), dim).fill(0.0);
            }
            let together = shape.key_blocks() * BLOCK;
            for first in (0..shape.keys).step_by(together) {
                let end = shape.keys.min(first + together);
                let blocks = (first..end).step_by(BLOCK).enumerate().map(|(i, first)| {
                    let scratch = scratch.wrapping_add(i * Block::len(shape));
                    Block::new(first..end.min(first + BLOCK), scratch, dim)
                });
                for block in blocks.clone() {
                    block.start(s, shape, k, v);
                }
                for queries in chunks(shape.queries_seeing(first, end)) {
                    for block in blocks.clone() {
                        head.absorb(s, &block, queries.clone());
                    }
                }
                for block in blocks {
                    block.finish(s, shape, &head.parts);
                }
            }
        }
    }
}

/// A block of keys and values with its buffers: panels of `[dim][BLOCK]`, and rows.
struct Block {
    keys: Range<usize>,
    key: *mut f32,
    value: *mut f32,
    /// The gradients, which follow each other.
    dk: *mut f32,
    dv: *mut f32,
    /// The keys times the scale, in rows of whole vectors.
    key_rows: *mut f32,
}

impl Block {
    /// f32 of the buffers.
    #[inline(always)]
    fn len(shape: &Attention) -> usize {
        (4 * shape.dim + shape.padded_dim()) * BLOCK
    }

    /// The buffers at the start of the scratch.
    #[inline(always)]
    fn new(keys: Range<usize>, scratch: *mut f32, dim: usize) -> Self {
        let panel = |n: usize| scratch.wrapping_add(n * dim * BLOCK);
        let (key, value, dk, dv) = (panel(0), panel(1), panel(2), panel(3));
        Self { keys, key, value, dk, dv, key_rows: panel(4) }
    }

    /// Packs its rows of the head's keys and values and clears their gradients.
    ///
    /// # Safety
    /// The buffers must be valid, and the rows readable.
    #[inline(always)]
    unsafe fn start<S: Simd>(&self, s: S, shape: &Attention, k: Rows, v: Rows) {
        let (k, v, n) = (k.from(self.keys.start), v.from(self.keys.start), self.keys.len());
        // SAFETY: the caller's contract.
        unsafe {
            k.pack(s, n, shape.scale * LOG2_E, self.key);
            v.pack(s, n, 1.0, self.value);
            k.copy(n, shape.scale, self.key_rows, shape.padded_dim());
            clear(s, 2 * shape.dim, self.dk);
        }
    }

    /// Writes the gradients to the head's part.
    ///
    /// # Safety
    /// The buffers must be valid, and the part have the block's rows.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, shape: &Attention, parts: &Parts) {
        let (stride, at) = (parts.stride, self.keys.start * parts.stride);
        // SAFETY: the caller's contract.
        unsafe {
            for (from, factor, to) in [(self.dk, shape.scale, parts.dk), (self.dv, 1.0, parts.dv)] {
                unpack(s, from, &[factor; BLOCK], self.keys.len(), to.add(at), stride, shape.dim);
            }
        }
    }
}

/// A query head.
struct Head<'a> {
    shape: &'a Attention,
    mask: Option<Mask>,
    parts: Parts,
    /// Rows of the head, `stride` apart.
    q: *const f32,
    dout: *const f32,
    dq: *mut f32,
    stride: usize,
    /// `[CHUNK][BLOCK]` twice: scores, and their gradients.
    scores: *mut f32,
    /// The log-sum-exp to the base 2, and `delta`, of each query.
    lse: *mut f32,
    delta: *mut f32,
}

impl Head<'_> {
    /// Adds what a chunk of queries and a block of keys, as far as they see it, do to each other's
    /// gradients.
    ///
    /// # Safety
    /// The buffers must be valid, and the positions inside the shape.
    #[inline(always)]
    unsafe fn absorb<S: Simd>(&self, s: S, block: &Block, chunk: Range<usize>) {
        let (shape, dim, stride, keys) = (self.shape, self.shape.dim, self.stride, &block.keys);
        let seeing = shape.queries_seeing(keys.start, keys.end);
        let (first, end) = (chunk.start.max(seeing.start), chunk.end.min(seeing.end));
        if first >= end {
            return;
        }
        let (at, count) = (first * stride, end - first);
        let (scores, dscores) = (self.scores, self.scores.wrapping_add(CHUNK * BLOCK));
        // SAFETY: the caller's contract.
        unsafe {
            let q = Rows { data: self.q.add(at), stride, dim };
            let g = Rows { data: self.dout.add(at), stride, dim };
            q.dot(s, count, block.key, scores);
            let sight = Sight::of_keys(shape, first, keys.start, self.mask);
            sight.apply(s, count, keys.len(), scores);
            g.dot(s, count, block.value, dscores);
            for i in 0..count {
                let lse = s.splat(*self.lse.add(first + i));
                let delta = s.splat(*self.delta.add(first + i));
                for at in (i * BLOCK..(i + 1) * BLOCK).step_by(S::LANES) {
                    let p = exp2_below(s, s.sub(s.load(scores.add(at)), lse));
                    s.store(scores.add(at), p);
                    let dp = s.sub(s.load(dscores.add(at)), delta);
                    s.store(dscores.add(at), s.mul(p, dp));
                }
            }
            g.weigh(s, count, scores, block.dv);
            q.weigh(s, count, dscores, block.dk);
            let dq = Product {
                a: dscores,
                rows: Nest::line(count, BLOCK),
                depth: Nest::line(keys.len(), 1),
                b: block.key_rows,
                b_step: [0, 0, shape.padded_dim() as isize],
                cols: dim,
                c: self.dq.add(at),
                c_step: [0, 0, stride as isize],
                accumulate: true,
            };
            dq.run(s);
        }
    }
}

struct SumTask<'a> {
    args: &'a Backward,
    task: usize,
}

impl Kernel for SumTask<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { args, task } = self;
        let shape = &args.shape;
        let (batch, group, first) = Attention::place(task, shape.kv_heads, shape.keys, 1);
        let count = BLOCK.min(shape.keys - first);
        let heads = shape.heads / shape.kv_heads;
        let Parts { stride, dk, dv } = args.parts(batch, group * heads);
        let to = shape.offset(batch, shape.keys, first, shape.kv_heads, group);
        for (parts, to) in [(dk, args.dk.wrapping_add(to)), (dv, args.dv.wrapping_add(to))] {
            for (key, d) in
                (0..count).flat_map(|k| (0..shape.dim).step_by(S::LANES).map(move |d| (k, d)))
            {
                let n = S::LANES.min(shape.dim - d);
                let from = parts.wrapping_add((first + key) * stride + d);
                // SAFETY: the parts of the group's heads follow each other, `keys` rows each.
                unsafe {
                    let mut sum = load(s, from, n);
                    for head in 1..heads {
                        sum = s.add(sum, load(s, from.add(head * shape.keys * stride), n));
                    }
                    let to = to.add(key * shape.kv_heads * shape.dim + d);
                    if n == S::LANES { s.store(to, sum) } else { s.store_n(to, sum, n) }
                }
            }
        }
    }
}

/// The first `n <= LANES` lanes.
///
/// # Safety
/// `p` must be valid for reading `n` f32.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, p: *const f32, n: usize) -> S::F {
    // SAFETY: the caller's contract.
    unsafe { if n == S::LANES { s.load(p) } else { s.load_n(p, n) } }
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
