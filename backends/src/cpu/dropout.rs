//! Dropout.

use tenon_kernels::random::{Philox, dropout};

use super::Context;
use super::args::{Args, GRAIN, split};

/// Drops elements of input 0 by the sequence of the seed in input 1 and `stream`.
pub(super) fn launch(cx: &Context, keep: f32, stream: u32, args: Args<'_>) {
    let seed = args.input::<i32>(1)[0].cast_unsigned();
    let random = Philox::new(seed.into(), stream.into());
    let (x, y) = (args.input::<f32>(0), args.output::<f32>(0));
    let part = split(x.len(), GRAIN);
    cx.pool.run(x.len().div_ceil(GRAIN), &|task, _| {
        let range = part(task);
        // SAFETY: tasks take disjoint ranges.
        let y = unsafe { y.piece(range.clone()) };
        dropout(cx.isa, random, keep, range.start as u64, &x[range], y);
    });
}
