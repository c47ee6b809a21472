//! Copies between layouts.

use tenon_kernels::movement::StridedCopy;

use super::Context;
use super::args::{Args, GRAIN, split};

/// Fills output 0, then copies boxes of inputs into it.
pub(super) fn launch(
    cx: &Context,
    fill: Option<f32>,
    copies: &[(usize, StridedCopy)],
    args: Args<'_>,
) {
    if let Some(value) = fill {
        let out = args.output::<f32>(0);
        let part = split(out.len(), GRAIN);
        cx.pool.run(out.len().div_ceil(GRAIN), &|task, _| {
            // SAFETY: tasks take disjoint ranges.
            unsafe { out.piece(part(task)) }.fill(value);
        });
    }
    for (input, copy) in copies {
        match args.output_desc(0).dtype().row_bytes(1) {
            Some(4) => run::<u32>(cx, *input, copy, args),
            Some(2) => run::<u16>(cx, *input, copy, args),
            // Inference leaves nothing else but bytes.
            _ => run::<u8>(cx, *input, copy, args),
        }
    }
}

/// One copy of elements of the size of `T`.
fn run<T: Copy + Send>(cx: &Context, input: usize, copy: &StridedCopy, args: Args<'_>) {
    let from = args.raw_input::<T>(input);
    let to = args.raw_output::<T>(0);
    cx.pool.run(copy.units(), &|unit, _| {
        // SAFETY: the op made the copy for operands of these shapes; units write disjoint elements.
        unsafe { copy.run(cx.isa, from.at(0).cast_const(), to.at(0), unit) };
    });
}
