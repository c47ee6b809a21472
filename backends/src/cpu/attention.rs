//! Attention, forward and backward.

use tenon_kernels::attention::{Attention, Backward, Forward, Mask, forward, grad_head, sum_heads};

use super::Context;
use super::args::Args;
use super::scratch::Scratch;

/// The scratch of the forward pass.
fn forward_scratch(shape: &Attention) -> Scratch {
    Scratch::new(0, shape.forward_scratch())
}

/// The scratch of the backward pass; its tasks share what heads add to the gradients of keys.
fn backward_scratch(shape: &Attention) -> Scratch {
    Scratch::new(shape.parts_len(), shape.backward_scratch())
}

/// Scratch bytes of [`launch`].
pub(super) fn workspace(cx: &Context, shape: &Attention) -> usize {
    forward_scratch(shape).bytes(cx.pool.threads())
}

/// Scratch bytes of [`launch_grad`].
pub(super) fn workspace_grad(cx: &Context, shape: &Attention) -> usize {
    backward_scratch(shape).bytes(cx.pool.threads())
}

/// The mask in operand `i`, if there is one, with zero strides where it broadcasts.
fn mask(args: Args<'_>, i: usize) -> Option<Mask> {
    if i >= args.inputs() {
        return None;
    }
    let shape = args.input_desc(i).shape();
    let strides = shape.strides();
    // The axis that lies `back` axes before the last.
    let stride = |back: usize| {
        let axis = shape.len().checked_sub(back + 1);
        axis.filter(|&axis| shape[axis] > 1).map_or(0, |axis| strides[axis])
    };
    Some(Mask {
        data: args.input_ptr(i).cast(),
        batch_stride: stride(3),
        head_stride: stride(2),
        query_stride: stride(1),
    })
}

/// `out, lse` from `q, k, v` and perhaps a mask.
pub(super) fn launch(cx: &Context, shape: &Attention, args: Args<'_>) {
    let operands = Forward {
        shape: *shape,
        q: args.input_ptr(0).cast(),
        k: args.input_ptr(1).cast(),
        v: args.input_ptr(2).cast(),
        mask: mask(args, 3),
        out: args.output_ptr(0).cast(),
        lse: args.output_ptr(1).cast(),
    };
    let scratch = forward_scratch(shape);
    cx.pool.run(shape.query_tasks(), &|task, thread| {
        // SAFETY: the op's inference fixed the operands' sizes; each task runs once.
        unsafe { forward(cx.isa, &operands, task, scratch.of_thread(args, thread)) };
    });
}

/// `dq, dk, dv` from `q, k, v, out, dout, lse` and perhaps a mask.
pub(super) fn launch_grad(cx: &Context, shape: &Attention, args: Args<'_>) {
    let scratch = backward_scratch(shape);
    let operands = Backward {
        shape: *shape,
        q: args.input_ptr(0).cast(),
        k: args.input_ptr(1).cast(),
        v: args.input_ptr(2).cast(),
        mask: mask(args, 6),
        out: args.input_ptr(3).cast(),
        dout: args.input_ptr(4).cast(),
        lse: args.input_ptr(5).cast(),
        parts: scratch.shared(args),
        dq: args.output_ptr(0).cast(),
        dk: args.output_ptr(1).cast(),
        dv: args.output_ptr(2).cast(),
    };
    cx.pool.run(shape.head_tasks(), &|task, thread| {
        // SAFETY: the op's inference fixed the operands' sizes; each task runs once.
        unsafe { grad_head(cx.isa, &operands, task, scratch.of_thread(args, thread)) };
    });
    cx.pool.run(shape.sum_tasks(), &|task, _| {
        // SAFETY: as above; `run` has returned, so every head's task has ended.
        unsafe { sum_heads(cx.isa, &operands, task) };
    });
}
