//! `y[i] = f(x[i])`.

use tenon_kernels::unary::{self, Unary};

use super::Context;
use super::args::{Args, GRAIN, split};

/// Runs `op` on input 0, which output 0 may replace.
pub(super) fn launch(cx: &Context, op: Unary, args: Args<'_>) {
    let n = args.output_desc(0).numel();
    let (x, y) = (args.input_address::<f32>(0), args.output_address::<f32>(0));
    let part = split(n, GRAIN);
    cx.pool.run(n.div_ceil(GRAIN), &|task, _| {
        let range = part(task);
        // SAFETY: operands hold `n` elements; tasks take disjoint ranges; output is input or apart.
        unsafe { unary::apply(cx.isa, op, x.at(range.start), y.at(range.start), range.len()) };
    });
}
