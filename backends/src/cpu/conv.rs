//! Convolution, pooling and batch statistics.

use tenon_kernels::conv::batch_norm::{Normalize, NormalizeGrad, normalize, normalize_grad};
use tenon_kernels::conv::pool::{self, Pool2d};
use tenon_kernels::conv::{
    Conv, Conv2d, Direct, Direction, WeightGrad, convolve, grad_weight, pack_weight, sum_parts,
};

use super::Context;
use super::args::Args;
use super::scratch::Scratch;

/// The scratch of a convolution; its tasks share the packed weight.
fn convolve_scratch(shape: &Conv2d, direction: Direction) -> Scratch {
    Scratch::new(shape.packed_len(direction), shape.scratch(direction))
}

/// The scratch of a weight gradient; its tasks share the partial gradients, if there are several.
fn weight_scratch(shape: &Conv2d) -> Scratch {
    let parts = shape.weight_parts();
    let shared = if parts > 1 { parts * shape.weight_len() } else { 0 };
    Scratch::new(shared, shape.weight_scratch())
}

/// Scratch bytes of [`launch`].
pub(super) fn workspace(cx: &Context, conv: &Conv) -> usize {
    let scratch = match conv {
        Conv::Convolve(shape, direction) => convolve_scratch(shape, *direction),
        Conv::GradWeight(shape) => weight_scratch(shape),
        _ => return 0,
    };
    scratch.bytes(cx.pool.threads())
}

/// Runs `conv` on the operands that it names.
pub(super) fn launch(cx: &Context, conv: &Conv, args: Args<'_>) {
    match conv {
        Conv::Convolve(shape, direction) => launch_convolve(cx, shape, *direction, args),
        Conv::GradWeight(shape) => launch_grad_weight(cx, shape, args),
        Conv::Normalize { .. } => launch_normalize(cx, conv, args),
        Conv::NormalizeGrad { .. } => launch_normalize_grad(cx, conv, args),
        Conv::MaxPool(shape)
        | Conv::MaxPoolGrad(shape)
        | Conv::AvgPool(shape, _)
        | Conv::AvgPoolGrad(shape, _) => launch_pool(cx, conv, shape, args),
    }
}

fn launch_convolve(cx: &Context, shape: &Conv2d, direction: Direction, args: Args<'_>) {
    let scratch = convolve_scratch(shape, direction);
    let operands = Direct {
        shape: *shape,
        direction,
        src: args.input_ptr(0).cast(),
        weight: args.input_ptr(1).cast(),
        packed: scratch.shared(args),
        bias: (args.inputs() > 2).then(|| args.input_ptr(2).cast()),
        dst: args.output_ptr(0).cast(),
    };
    cx.pool.run(shape.pack_tasks(direction), &|task, _| {
        // SAFETY: the op's inference fixed the operands' sizes; each task runs once.
        unsafe { pack_weight(cx.isa, &operands, task) };
    });
    cx.pool.run(shape.tasks(direction), &|task, thread| {
        // SAFETY: the op's inference fixed the operands' sizes; each task runs once.
        unsafe { convolve(cx.isa, &operands, task, scratch.of_thread(args, thread)) };
    });
}

fn launch_grad_weight(cx: &Context, shape: &Conv2d, args: Args<'_>) {
    let scratch = weight_scratch(shape);
    let several = shape.weight_parts() > 1;
    let operands = WeightGrad {
        shape: *shape,
        x: args.input_ptr(0).cast(),
        dy: args.input_ptr(1).cast(),
        parts: if several { scratch.shared(args) } else { args.output_ptr(0).cast() },
    };
    cx.pool.run(shape.weight_tasks(), &|task, thread| {
        // SAFETY: the op's inference fixed the operands' sizes; each task runs once.
        unsafe { grad_weight(cx.isa, &operands, task, scratch.of_thread(args, thread)) };
    });
    if several {
        cx.pool.run(shape.sum_tasks(), &|task, _| {
            let dw = args.output_ptr(0).cast();
            // SAFETY: as above; `run` has returned, so every part is there.
            unsafe { sum_parts(cx.isa, &operands, dw, task) };
        });
    }
}

fn launch_pool(cx: &Context, conv: &Conv, shape: &Pool2d, args: Args<'_>) {
    cx.pool.run(shape.tasks(), &|task, _| {
        let (from, to) = (args.input_ptr(0).cast(), args.output_ptr(0).cast());
        // SAFETY: the op's inference fixed the operands' sizes; each task runs once.
        unsafe {
            match *conv {
                Conv::MaxPool(_) => {
                    let indices = args.output_ptr(1).cast();
                    pool::max_pool(cx.isa, shape, from, to, indices, task);
                }
                Conv::MaxPoolGrad(_) => {
                    pool::max_pool_grad(shape, from, args.input_ptr(1).cast(), to, task);
                }
                Conv::AvgPool(_, by) => pool::avg_pool(cx.isa, shape, by, from, to, task),
                Conv::AvgPoolGrad(_, by) => pool::avg_pool_grad(cx.isa, shape, by, from, to, task),
                _ => {}
            }
        }
    });
}

fn launch_normalize(cx: &Context, conv: &Conv, args: Args<'_>) {
    let Conv::Normalize { shape, momentum, eps, running, affine } = *conv else { return };
    let scale = if running { 3 } else { 1 };
    let operands = Normalize {
        shape,
        x: args.input_ptr(0).cast(),
        weight: affine.then(|| args.input_ptr(scale).cast()),
        bias: affine.then(|| args.input_ptr(scale + 1).cast()),
        running: running.then(|| (args.mutable_ptr(1).cast(), args.mutable_ptr(2).cast())),
        momentum,
        eps,
        y: args.output_ptr(0).cast(),
        mean: args.output_ptr(1).cast(),
        rstd: args.output_ptr(2).cast(),
    };
    cx.pool.run(shape.tasks(), &|task, _| {
        // SAFETY: the op's inference fixed the operands' sizes; each task runs once.
        unsafe { normalize(cx.isa, &operands, task) };
    });
}

fn launch_normalize_grad(cx: &Context, conv: &Conv, args: Args<'_>) {
    let Conv::NormalizeGrad { shape, training, affine } = *conv else { return };
    let operands = NormalizeGrad {
        shape,
        x: args.input_ptr(0).cast(),
        weight: affine.then(|| args.input_ptr(4).cast()),
        mean: args.input_ptr(1).cast(),
        rstd: args.input_ptr(2).cast(),
        training,
        dy: args.input_ptr(3).cast(),
        dx: args.output_ptr(0).cast(),
        dweight: args.output_ptr(1).cast(),
        dbias: args.output_ptr(2).cast(),
    };
    cx.pool.run(shape.tasks(), &|task, _| {
        // SAFETY: the op's inference fixed the operands' sizes; each task runs once.
        unsafe { normalize_grad(cx.isa, &operands, task) };
    });
}
