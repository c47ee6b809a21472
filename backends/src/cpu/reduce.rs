//! Reductions along axes, and the global norm.

use tenon_kernels::reduce::{Reduce, Reduction, sum_of_squares};
use tenon_runtime::backend::Signature;

use super::Context;
use super::args::{Args, GRAIN, split};

/// Reduces input 0 along `axes`.
pub(super) fn launch(cx: &Context, kind: Reduce, axes: &[usize], args: Args<'_>) {
    let reduction = Reduction::new(args.input_desc(0).shape(), axes);
    let (x, out) = (args.input::<f32>(0), args.output::<f32>(0));
    let grain = (GRAIN / reduction.terms().max(1)).max(16);
    let part = split(out.len(), grain);
    cx.pool.run(out.len().div_ceil(grain), &|task, _| {
        let range = part(task);
        // SAFETY: tasks take disjoint ranges.
        reduction.run(cx.isa, kind, x, range.clone(), unsafe { out.piece(range) });
    });
}

/// Parts of each input that are summed by a task.
fn parts(len: usize) -> usize {
    len.div_ceil(GRAIN)
}

/// Scratch of [`norm`]: one f64 a part.
pub(super) fn norm_workspace(signature: Signature<'_>) -> usize {
    signature.inputs.iter().map(|d| parts(d.numel())).sum::<usize>() * size_of::<f64>()
}

/// The L2 norm of all inputs together: parts in any order, then their sum in order.
pub(super) fn norm(cx: &Context, args: Args<'_>) {
    let sums = args.scratch::<f64>();
    let mut first = 0;
    for i in 0..args.inputs() {
        let x = args.input::<f32>(i);
        let part = split(x.len(), GRAIN);
        cx.pool.run(parts(x.len()), &|task, _| {
            let sum = sum_of_squares(cx.isa, &x[part(task)]);
            // SAFETY: each part has a place of its own.
            unsafe { sums.piece(first + task..first + task + 1)[0] = sum };
        });
        first += parts(x.len());
    }
    // SAFETY: all parts are done.
    let total: f64 = unsafe { sums.piece(0..first) }.iter().sum();
    // SAFETY: nobody else writes the output.
    unsafe { args.output::<f32>(0).all()[0] = total.sqrt() as f32 };
}

/// `scale * min(1, max_norm / (norm * scale + 1e-6))`.
pub(super) fn clip_scale(max_norm: f32, args: Args<'_>) {
    let (norm, scale) = (args.input::<f32>(0)[0], args.input::<f32>(1)[0]);
    let factor = (max_norm / (norm * scale + 1e-6)).min(1.0);
    // SAFETY: nobody else writes the output.
    unsafe { args.output::<f32>(0).all()[0] = scale * factor };
}
