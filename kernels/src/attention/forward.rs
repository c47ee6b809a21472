//! The forward pass: online softmax over chunks of keys.

use super::block::{FLOOR, LOG2_E, Rows, Sight, chunks, clear, unpack};
use super::{Attention, BLOCK, Mask};
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;
use crate::simd::math::exp2_below;

/// What the forward pass reads and writes; shapes as [`Attention`] says.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
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
    /// The weighted values.
    pub out: *mut f32,
    /// Natural logarithm of each query's sum of exponentials; minus infinity where it sees no key.
    pub lse: *mut f32,
}

// SAFETY: addresses only; using them is the contract of the functions that take them.
unsafe impl Sync for Forward {}

/// Runs one of [`Attention::query_tasks`] tasks of the forward pass.
///
/// # Safety
/// The pointers of `args` must be valid for its shape, `out` and `lse` overlap nothing else,
/// `task` be in range and run once, and `scratch` hold [`Attention::forward_scratch`] f32.
pub unsafe fn forward(isa: Isa, args: &Forward, task: usize, scratch: &mut [f32]) {
    debug_assert!(scratch.len() >= args.shape.forward_scratch());
    isa.run(Task { args, task, scratch: scratch.as_mut_ptr() });
}

struct Task<'a> {
    args: &'a Forward,
    task: usize,
    scratch: *mut f32,
}

impl Kernel for Task<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { args, task, scratch } = self;
        let shape = &args.shape;
        let dim = shape.dim;
        let (batch, head, first) = Attention::place(task, shape.heads, shape.queries);
        let queries = first..shape.queries.min(first + BLOCK);
        let group = head / (shape.heads / shape.kv_heads);
        let mask = args.mask.map(|m| m.of_head(batch, head));
        let q_at = shape.offset(batch, shape.queries, first, shape.heads, head);
        let q_stride = shape.heads * dim;
        let kv_stride = shape.kv_heads * dim;

        let query = scratch;
        let acc = query.wrapping_add(dim * BLOCK);
        let stats = Stats { max: acc.wrapping_add(dim * BLOCK) };
        let scores = stats.max.wrapping_add(2 * BLOCK);
        // SAFETY: `forward`'s contract: every offset below lies inside the shape or the scratch.
        unsafe {
            let q = Rows { data: args.q.add(q_at), stride: q_stride, dim };
            q.pack(s, queries.len(), shape.scale * LOG2_E, query);
            clear(s, dim, acc);
            stats.start(s);
            for keys in chunks(shape.keys_seen(queries.start, queries.end)) {
                let at = shape.offset(batch, shape.keys, keys.start, shape.kv_heads, group);
                let k = Rows { data: args.k.add(at), stride: kv_stride, dim };
                let v = Rows { data: args.v.add(at), stride: kv_stride, dim };
                k.dot(s, keys.len(), query, scores);
                let sight = Sight::of_queries(shape, first, keys.start, mask);
                sight.apply(s, keys.len(), queries.len(), scores);
                stats.absorb(s, scores, keys.len(), acc, dim);
                v.weigh(s, keys.len(), scores, acc);
            }
            let (factor, lse) = stats.finish();
            unpack(s, acc, &factor, queries.len(), args.out.add(q_at), q_stride, dim);
            let row = (batch * shape.heads + head) * shape.queries + first;
            args.lse.add(row).copy_from_nonoverlapping(lse.as_ptr(), queries.len());
        }
    }
}

/// The running maximum of each lane, then the running sum, `BLOCK` f32 each.
#[derive(Clone, Copy)]
struct Stats {
    max: *mut f32,
}

impl Stats {
    /// Nothing seen yet.
    ///
    /// # Safety
    /// `max` must be valid for `2 * BLOCK` f32.
    #[inline(always)]
    unsafe fn start<S: Simd>(self, s: S) {
        for v in (0..BLOCK).step_by(S::LANES) {
            // SAFETY: the caller's contract.
            unsafe {
                s.store(self.max.add(v), s.splat(FLOOR));
                s.store(self.max.add(BLOCK + v), s.zero());
            }
        }
    }

    /// Turns `scores[rows][BLOCK]` into weights relative to the new maximum, and rescales
    /// `acc[dim][BLOCK]` to it.
    ///
    /// # Safety
    /// All three must be valid for those sizes.
    #[inline(always)]
    unsafe fn absorb<S: Simd>(
        self,
        s: S,
        scores: *mut f32,
        rows: usize,
        acc: *mut f32,
        dim: usize,
    ) {
        for v in (0..BLOCK).step_by(S::LANES) {
            // SAFETY: `v` starts a whole vector of every row.
            unsafe {
                let (max_at, sum_at) = (self.max.add(v), self.max.add(BLOCK + v));
                let old = s.load(max_at);
                // Four maxima hide the latency of the instruction.
                let mut most = [old; 4];
                let whole = rows / 4 * 4;
                for row in (0..whole).step_by(4) {
                    for (i, most) in most.iter_mut().enumerate() {
                        *most = s.max(*most, s.load(scores.add((row + i) * BLOCK + v)));
                    }
                }
                for row in whole..rows {
                    most[0] = s.max(most[0], s.load(scores.add(row * BLOCK + v)));
                }
                let max = s.max(s.max(most[0], most[1]), s.max(most[2], most[3]));
                let mut sum = s.load(sum_at);
                // Mostly the maximum is found early; then there is nothing to rescale.
                let drop = s.sub(max, old);
                if s.max_lane(drop) > 0.0 {
                    let fade = exp2_below(s, s.neg(drop));
                    sum = s.mul(sum, fade);
                    for d in 0..dim {
                        let at = acc.add(d * BLOCK + v);
                        s.store(at, s.mul(s.load(at), fade));
                    }
                }
                for row in 0..rows {
                    let at = scores.add(row * BLOCK + v);
                    let weight = exp2_below(s, s.sub(s.load(at), max));
                    sum = s.add(sum, weight);
                    s.store(at, weight);
                }
                s.store(max_at, max);
                s.store(sum_at, sum);
            }
        }
    }

    /// One over each sum, and each log-sum-exp.
    ///
    /// # Safety
    /// As for [`Stats::start`].
    #[inline(always)]
    unsafe fn finish(self) -> ([f32; BLOCK], [f32; BLOCK]) {
        let mut factor = [0.0; BLOCK];
        let mut lse = [f32::NEG_INFINITY; BLOCK];
        for i in 0..BLOCK {
            // SAFETY: the caller's contract.
            let (max, sum) = unsafe { (*self.max.add(i), *self.max.add(BLOCK + i)) };
            if sum != 0.0 {
                factor[i] = 1.0 / sum;
                lse[i] = (max + sum.log2()) * std::f32::consts::LN_2;
            }
        }
        (factor, lse)
    }
}
