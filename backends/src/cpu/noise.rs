//! Noise.

use tenon_kernels::random::{Philox, add_normals};

use super::Context;
use super::args::{Args, split};

/// Elements of a task.
const GRAIN: usize = 1 << 14;

/// Adds normal numbers to input 0, by the sequence of the seed, the step in input 1 and `stream`.
pub(super) fn launch(cx: &Context, scale: f32, seed: u64, stream: u32, args: Args<'_>) {
    let step = args.input::<f32>(1)[0] as u64;
    let random = Philox::new(seed, step << 32 | u64::from(stream));
    let (x, y) = (args.input::<f32>(0), args.output::<f32>(0));
    let part = split(x.len(), GRAIN);
    cx.pool.run(x.len().div_ceil(GRAIN), &|task, _| {
        let range = part(task);
        // SAFETY: tasks take disjoint ranges.
        let y = unsafe { y.piece(range.clone()) };
        add_normals(cx.isa, random, scale, range.start as u64, &x[range], y);
    });
}
