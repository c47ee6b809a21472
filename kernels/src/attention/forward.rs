//! The forward pass: online softmax over chunks of keys.

use std::ops::Range;

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

/// A maximum that rises by no more, in powers of two, stays what it was: weights up to 2^8 lose
/// nothing, and what was summed up need not be rescaled.
const RISE: f32 = 8.0;

/// Rows whose weights are computed ahead of their products: exponentials take some 40 cycles.
const LEAD: usize = 8;

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
        let blocks = shape.blocks_of_task();
        let (batch, head, first) = Attention::place(task, shape.heads, shape.queries, blocks);
        let end = shape.queries.min(first + blocks * BLOCK);
        let group = head / (shape.heads / shape.kv_heads);
        let head = Head {
            shape,
            mask: args.mask.map(|m| m.of_head(batch, head)),
            q: Rows::of_head(args.q, shape.heads, head, batch * shape.queries, shape.dim),
            out: Rows::of_head(args.out, shape.heads, head, batch * shape.queries, shape.dim),
            k: Rows::of_head(args.k, shape.kv_heads, group, batch * shape.keys, shape.dim),
            v: Rows::of_head(args.v, shape.kv_heads, group, batch * shape.keys, shape.dim),
            lse: args.lse.wrapping_add((batch * shape.heads + head) * shape.queries),
            scores: scratch.wrapping_add(blocks * Block::len(shape.dim)),
        };
        let blocks = (first..end).step_by(BLOCK).enumerate().map(|(i, first)| {
            let scratch = scratch.wrapping_add(i * Block::len(shape.dim));
            Block::new(first..end.min(first + BLOCK), scratch, shape.dim)
        });
        // SAFETY: `forward`'s contract: every row lies inside the shape, every block in the scratch.
        unsafe {
            for block in blocks.clone() {
                block.start(s, &head);
            }
            for keys in chunks(shape.keys_seen(first, end)) {
                for block in blocks.clone() {
                    block.absorb(s, &head, keys.clone());
                }
            }
            for block in blocks {
                block.finish(s, &head);
            }
        }
    }
}

/// A query head of a sequence: what all blocks of a task share.
struct Head<'a> {
    shape: &'a Attention,
    mask: Option<Mask>,
    q: Rows,
    out: Rows,
    k: Rows,
    v: Rows,
    /// Of the head's first query.
    lse: *mut f32,
    /// `[CHUNK][BLOCK]`.
    scores: *mut f32,
}

/// A block of queries, with what is kept of it from chunk to chunk.
struct Block {
    queries: Range<usize>,
    /// The queries, and the values weighted so far: panels of `[dim][BLOCK]`.
    query: *mut f32,
    acc: *mut f32,
    stats: Stats,
}

impl Block {
    /// f32 that a block keeps.
    #[inline(always)]
    fn len(dim: usize) -> usize {
        (2 * dim + 2) * BLOCK
    }

    #[inline(always)]
    fn new(queries: Range<usize>, scratch: *mut f32, dim: usize) -> Self {
        let acc = scratch.wrapping_add(dim * BLOCK);
        let stats = Stats { max: acc.wrapping_add(dim * BLOCK) };
        Self { queries, query: scratch, acc, stats }
    }

    /// Packs the queries; nothing seen yet.
    ///
    /// # Safety
    /// The buffers must be valid, and the queries inside the shape.
    #[inline(always)]
    unsafe fn start<S: Simd>(&self, s: S, head: &Head) {
        // SAFETY: the caller's contract.
        unsafe {
            let q = head.q.from(self.queries.start);
            q.pack(s, self.queries.len(), head.shape.scale * LOG2_E, self.query);
            clear(s, head.shape.dim, self.acc);
            self.stats.start(s);
        }
    }

    /// Adds what the block sees of a chunk of keys.
    ///
    /// # Safety
    /// As for [`Block::start`], of which it is the next step.
    #[inline(always)]
    unsafe fn absorb<S: Simd>(&self, s: S, head: &Head, chunk: Range<usize>) {
        let (queries, scores) = (&self.queries, head.scores);
        let seen = head.shape.keys_seen(queries.start, queries.end);
        let (first, end) = (chunk.start.max(seen.start), chunk.end.min(seen.end));
        if first >= end {
            return;
        }
        self.ask_ahead(s, head, first);
        let (count, k, v) = (end - first, head.k.from(first), head.v.from(first));
        // SAFETY: the caller's contract.
        unsafe {
            k.dot(s, count, self.query, scores);
            let sight = Sight::of_queries(head.shape, queries.start, first, head.mask);
            sight.apply(s, count, queries.len(), scores);
            self.stats.raise(s, scores, count, self.acc, v.dim);
            let done = self.stats.weigh_first(s, v, count, scores, self.acc);
            let rest = Rows { data: v.data.add(done), dim: v.dim - done, ..v };
            rest.weigh(s, count, scores, self.acc.add(done * BLOCK));
        }
    }

    /// Asks for two of the rows that the task will write, and for two that the task after it will
    /// read: few at a time, for many at once hold up all other reads (2048 positions: forward 2 %
    /// faster).
    #[inline(always)]
    fn ask_ahead<S: Simd>(&self, s: S, head: &Head, key: usize) {
        for row in [key / 32, key / 32 + 1] {
            let row = self.queries.start + row % BLOCK;
            head.out.prefetch(s, row);
            head.q.prefetch(s, row + head.shape.blocks_of_task() * BLOCK);
        }
    }

    /// Writes the weighted values and the log-sum-exp.
    ///
    /// # Safety
    /// As for [`Block::start`], of which it is the last step.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, head: &Head) {
        let Range { start, end } = self.queries;
        let (n, out) = (end - start, head.out.from(start));
        // SAFETY: the caller's contract.
        unsafe {
            let (factor, lse) = self.stats.finish();
            unpack(s, self.acc, &factor, n, out.data.cast_mut(), out.stride, out.dim);
            head.lse.add(start).copy_from_nonoverlapping(lse.as_ptr(), n);
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

    /// Raises the maximum to that of `scores[rows][BLOCK]` where it is far lower, and rescales the
    /// sum and `acc[dim][BLOCK]` to it.
    ///
    /// # Safety
    /// All three must be valid for those sizes.
    #[inline(always)]
    unsafe fn raise<S: Simd>(self, s: S, scores: *mut f32, rows: usize, acc: *mut f32, dim: usize) {
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
                let drop = s.sub(max, old);
                // A NaN is one query's own matter.
                if s.max_lane(s.max(drop, s.zero())) > RISE {
                    let fade = exp2_below(s, s.neg(drop));
                    s.store(sum_at, s.mul(s.load(sum_at), fade));
                    for d in 0..dim {
                        let at = acc.add(d * BLOCK + v);
                        s.store(at, s.mul(s.load(at), fade));
                    }
                    s.store(max_at, max);
                }
            }
        }
    }

    /// Turns scores into weights, and adds the first columns of `values` that they weigh to `acc`.
    /// Returns how many: these products keep the multipliers busy while the exponentials wait for
    /// one another (forward 3 % faster, AVX-512).
    ///
    /// # Safety
    /// As for [`Rows::weigh`].
    #[inline(always)]
    unsafe fn weigh_first<S: Simd>(
        self,
        s: S,
        values: Rows,
        n: usize,
        scores: *mut f32,
        acc: *mut f32,
    ) -> usize {
        // SAFETY: the caller's contract; every head has a column.
        unsafe {
            if S::GEMM_MR >= 8 && values.dim >= 8 {
                self.weigh_columns::<S, 8>(s, values, n, scores, acc)
            } else if values.dim >= 2 {
                self.weigh_columns::<S, 2>(s, values, n, scores, acc)
            } else {
                self.weigh_columns::<S, 1>(s, values, n, scores, acc)
            }
        }
    }

    /// [`Stats::weigh_first`] for `COLUMNS` columns.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn weigh_columns<S: Simd, const COLUMNS: usize>(
        self,
        s: S,
        values: Rows,
        n: usize,
        scores: *mut f32,
        acc: *mut f32,
    ) -> usize {
        for col in (0..BLOCK).step_by(2 * S::LANES) {
            let lanes = [col, col + S::LANES];
            let mut sums = [[s.zero(); 2]; COLUMNS];
            // SAFETY: the caller's contract.
            unsafe {
                let max = load_pair(s, self.max, lanes);
                let mut total = load_pair(s, self.max.add(BLOCK), lanes);
                for step in 0..n + LEAD {
                    if step < n {
                        values.prefetch(s, step);
                        for v in 0..2 {
                            let at = scores.add(step * BLOCK + lanes[v]);
                            let weight = exp2_below(s, s.sub(s.load(at), max[v]));
                            s.store(at, weight);
                            total[v] = s.add(total[v], weight);
                        }
                    }
                    if step < LEAD {
                        continue;
                    }
                    let row = step - LEAD;
                    let value = values.data.add(row * values.stride);
                    let weights = load_pair(s, scores.add(row * BLOCK), lanes);
                    for (c, sum) in sums.iter_mut().enumerate() {
                        let value = s.splat(*value.add(c));
                        for v in 0..2 {
                            sum[v] = s.fma(value, weights[v], sum[v]);
                        }
                    }
                }
                for v in 0..2 {
                    s.store(self.max.add(BLOCK + lanes[v]), total[v]);
                    for (c, sum) in sums.iter().enumerate() {
                        let at = acc.add(c * BLOCK + lanes[v]);
                        s.store(at, s.add(s.load(at), sum[v]));
                    }
                }
            }
        }
        COLUMNS
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

/// Two vectors, at `lanes` of a row.
///
/// # Safety
/// Both must be readable.
#[inline(always)]
unsafe fn load_pair<S: Simd>(s: S, row: *const f32, lanes: [usize; 2]) -> [S::F; 2] {
    // SAFETY: the caller's contract.
    unsafe { [s.load(row.add(lanes[0])), s.load(row.add(lanes[1]))] }
}
