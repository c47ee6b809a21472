//! Scaled dot-product attention with grouped heads, forward and backward.
//!
//! The score matrix is never materialised: the positions of a block of [`BLOCK`] queries (or of keys,
//! in the backward pass) are vector lanes, and the other side is walked in chunks. Softmax is then a
//! vertical operation, the other side is read where it lies, and only the block itself is
//! transposed. The forward pass keeps a running maximum and sum (Milakov and Gimelshein, "Online
//! normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022); the backward pass
//! recomputes the scores from the saved log-sum-exp.
//!
//! Work is split by shape into tasks that own what they write, so the bits do not depend on the
//! number of threads.
//!
//! Milliseconds of one Zen 5 thread, causal, 9 heads of 64, best of 20 runs on a quiet machine
//! (torch takes 6.6 and 64 forward, 23 and 228 with the backward pass); `cargo bench --bench
//! attention` runs the same shapes:
//!
//! | positions | forward | backward |
//! |---|---|---|
//! | 512 | 1.5 | 3.7 |
//! | 2048 | 23 | 56 |
//!
//! The products alone would reach 95 % of what the multipliers can do, and the whole reaches 83 % at
//! 2048 positions: exponentials take 3 %, rows that lie apart in memory 9 % where nothing is asked for
//! ahead and blocks share nothing. Lost experiments: asking for keys ahead in either product, chunks
//! of 96 and 128, blocks of 64.

use crate::simd::MAX_LANES;

mod backward;
mod block;
mod forward;
pub mod reference;
#[cfg(test)]
mod tests;

pub use backward::{Backward, grad_head, sum_heads};
pub use forward::{Forward, forward};

/// Queries (or keys) whose positions fill the vector lanes.
///
/// 32 is two AVX-512 vectors: with 64 rows of the other side the working set of a head of 64 is
/// 32 KiB, within a first-level cache.
pub const BLOCK: usize = 32;

/// Positions of the other side that one step of a task reads.
const CHUNK: usize = 64;

/// A shape and what may be seen of it.
///
/// Tensors are row-major: `q` and `out` are `[batch, queries, heads, dim]`, `k` and `v` are
/// `[batch, keys, kv_heads, dim]`, `lse` is `[batch, heads, queries]`. Query head `h` reads
/// key-value head `h / (heads / kv_heads)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Sequences.
    pub batch: usize,
    /// Query positions of a sequence.
    pub queries: usize,
    /// Key positions of a sequence.
    pub keys: usize,
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// Hides the keys after each query. Sequences end together: query `i` stands at key position
    /// `i + keys - queries`.
    pub causal: bool,
    /// Shows only keys less than this far from the query (sliding window).
    pub window: Option<usize>,
    /// Factor on the dot products, usually `1 / sqrt(dim)`.
    pub scale: f32,
}

/// An additive mask, broadcast by zero strides; its last axis is the key position, contiguous.
///
/// `-inf` (or anything below -1e20) hides a key; a query that sees no key gives zeros.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// The first element.
    pub data: *const f32,
    /// Elements from one sequence to the next.
    pub batch_stride: usize,
    /// Elements from one head to the next.
    pub head_stride: usize,
    /// Elements from one query to the next.
    pub query_stride: usize,
}

impl Attention {
    /// Tasks of [`forward`]: one for a few blocks of queries of each head.
    #[must_use]
    pub fn query_tasks(&self) -> usize {
        self.batch * self.heads * self.queries.div_ceil(self.blocks_of_task() * BLOCK)
    }

    /// Tasks of [`grad_head`]: one for each query head.
    #[must_use]
    pub fn head_tasks(&self) -> usize {
        self.batch * self.heads
    }

    /// Tasks of [`sum_heads`]: one for each block of keys of each key-value head, and none where
    /// every query head has keys of its own.
    #[must_use]
    pub fn sum_tasks(&self) -> usize {
        if self.shares_keys() { self.batch * self.kv_heads * self.keys.div_ceil(BLOCK) } else { 0 }
    }

    /// f32 of scratch that one running [`forward`] task needs.
    #[must_use]
    pub fn forward_scratch(&self) -> usize {
        ((2 * self.dim + 2) * self.blocks_of_task() + CHUNK) * BLOCK
    }

    /// f32 of scratch that one running [`grad_head`] task needs.
    #[must_use]
    pub fn backward_scratch(&self) -> usize {
        ((4 * self.dim + self.padded_dim()) * self.key_blocks() + 2 * CHUNK) * BLOCK
            + 2 * self.queries
    }

    /// f32 of workspace that the backward pass keeps between its two steps: where heads share keys,
    /// what each of them adds to the gradients of keys and values, `[batch, heads, keys, dim]`
    /// twice.
    #[must_use]
    pub fn parts_len(&self) -> usize {
        if self.shares_keys() { 2 * self.batch * self.heads * self.keys * self.dim } else { 0 }
    }

    /// Whether several query heads read one key-value head.
    fn shares_keys(&self) -> bool {
        self.heads > self.kv_heads
    }

    /// `dim` in whole vectors of every level.
    fn padded_dim(&self) -> usize {
        self.dim.next_multiple_of(MAX_LANES)
    }

    /// Multiply-adds of the forward pass that this kernel does, twice, as FLOPs.
    #[must_use]
    pub fn flops(&self) -> u64 {
        let seen: usize = (0..self.queries).map(|i| self.keys_seen(i, i + 1).len()).sum();
        4 * (self.batch * self.heads * self.dim) as u64 * seen as u64
    }

    /// How far before and after itself a query sees.
    fn reach(&self) -> (usize, usize) {
        let near = self.window.map_or(self.queries + self.keys, |w| w.saturating_sub(1));
        (near, if self.causal { 0 } else { near })
    }

    /// The keys that some query of `first..end` sees.
    fn keys_seen(&self, first: usize, end: usize) -> std::ops::Range<usize> {
        let (before, after) = self.reach();
        // Positions count from `queries`, so that none is negative.
        let low = (first + self.keys).saturating_sub(before + self.queries);
        let high = (end + self.keys + after).saturating_sub(self.queries).min(self.keys);
        low..high.max(low)
    }

    /// The queries that see some key of `first..end`.
    fn queries_seeing(&self, first: usize, end: usize) -> std::ops::Range<usize> {
        let (before, after) = self.reach();
        let low = (first + self.queries).saturating_sub(after + self.keys);
        let high = (end + self.queries + before).saturating_sub(self.keys).min(self.queries);
        low..high.max(low)
    }

    /// Blocks of queries in a task of the forward pass, which share what they read of keys and
    /// values: up to eight, but of short sequences fewer, so that threads find enough tasks.
    fn blocks_of_task(&self) -> usize {
        (self.queries / (8 * BLOCK)).clamp(1, 8)
    }

    /// Blocks of keys that a task of the backward pass takes through the queries together: each
    /// chunk of queries comes from L2 for all but the first (2048 positions: 2 % faster).
    fn key_blocks(&self) -> usize {
        self.keys.div_ceil(BLOCK).clamp(1, 4)
    }

    /// Splits a task number, of so many blocks `each`, into sequence, head and first position.
    fn place(task: usize, heads: usize, positions: usize, each: usize) -> (usize, usize, usize) {
        let blocks = positions.div_ceil(each * BLOCK);
        (task / blocks / heads, task / blocks % heads, task % blocks * each * BLOCK)
    }

    /// Element offset of position `at` of head `head` in `[batch, positions, heads, dim]`.
    fn offset(
        &self,
        batch: usize,
        positions: usize,
        at: usize,
        heads: usize,
        head: usize,
    ) -> usize {
        ((batch * positions + at) * heads + head) * self.dim
    }
}
