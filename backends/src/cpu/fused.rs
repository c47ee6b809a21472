//! A chain of elementwise operations in one pass.

use tenon_kernels::fused::{self, CHUNK, Input, Instruction, MAX_INPUTS};

use super::Context;
use super::args::{Address, Args, GRAIN, split};

/// f32 of a thread's registers.
fn registers(program: &[Instruction]) -> usize {
    fused::registers(program) * CHUNK
}

/// Scratch bytes: registers for every thread.
pub(super) fn workspace(cx: &Context, program: &[Instruction]) -> usize {
    cx.pool.threads() * registers(program) * size_of::<f32>()
}

/// Runs `program` on the inputs, of which output 0 may replace one that has its shape.
pub(super) fn launch(cx: &Context, program: &[Instruction], args: Args<'_>) {
    let shape = args.output_desc(0).shape();
    let count = args.inputs();
    assert!(count <= MAX_INPUTS, "a program has at most {MAX_INPUTS} operands");
    let operand = |i: usize| (args.input_address::<f32>(i), args.input_desc(i).shape() == shape);
    let operands: [Option<(Address<f32>, bool)>; MAX_INPUTS] =
        std::array::from_fn(|i| (i < count).then(|| operand(i)));
    let (y, n) = (args.output_address::<f32>(0), args.output_desc(0).numel());
    let (scratch, each) = (args.scratch::<f32>(), registers(program));
    let part = split(n, GRAIN);
    cx.pool.run(n.div_ceil(GRAIN), &|task, thread| {
        let range = part(task);
        let inputs = operands.map(|operand| match operand {
            Some((x, true)) => Input { start: x.at(range.start), steps: true },
            Some((x, false)) => Input { start: x.at(0), steps: false },
            None => Input { start: std::ptr::null(), steps: false },
        });
        // SAFETY: the piece is this thread's own.
        let scratch = unsafe { scratch.piece(thread * each..(thread + 1) * each) };
        // SAFETY: operands have `n` elements or one; tasks take disjoint ranges of the output, which
        // is apart from the operands or equal to one of its shape.
        unsafe {
            fused::run(cx.isa, program, &inputs[..count], scratch, y.at(range.start), range.len());
        }
    });
}
