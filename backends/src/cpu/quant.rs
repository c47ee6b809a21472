//! Weight formats from and to f32.

use std::ops::Range;

use tenon_kernels::quant::Format;
use tenon_runtime::Result;

use super::Context;
use super::args::{Args, GRAIN, split};

/// Elements in a task: whole blocks of every format, since all sizes divide it.
const TASK: usize = GRAIN;
const _: () = assert!(TASK.is_multiple_of(256));

/// Input 0 encoded into output 0.
pub(super) fn encode(cx: &Context, format: Format, args: Args<'_>) {
    let (x, y) = (args.input_address::<f32>(0), args.raw_output::<u8>(0));
    tasks(cx, args.input_desc(0).numel(), &|range| {
        let (x, y) = (x.at(range.start).cast_const(), y.at(bytes(format, &range)));
        // SAFETY: a range of whole blocks of both operands; tasks write disjoint ones.
        unsafe { format.encode(cx.isa, x, range.len(), y) };
    });
}

/// Input 0 decoded into output 0.
pub(super) fn decode(cx: &Context, args: Args<'_>) -> Result<()> {
    let Some(format) = args.input_desc(0).dtype().format() else {
        return Err(args.unsupported(&"not a weight format"));
    };
    let (x, y) = (args.raw_input::<u8>(0), args.output_address::<f32>(0));
    tasks(cx, args.output_desc(0).numel(), &|range| {
        let from = x.at(bytes(format, &range));
        // SAFETY: a range of whole blocks of both operands; tasks write disjoint ones.
        unsafe { format.decode(cx.isa, from, range.len(), y.at(range.start)) };
    });
    Ok(())
}

/// Input 0 encoded and decoded into output 0, which may be the same memory.
pub(super) fn round_trip(cx: &Context, format: Format, args: Args<'_>) {
    let (x, y) = (args.input_address::<f32>(0), args.output_address::<f32>(0));
    tasks(cx, args.input_desc(0).numel(), &|range| {
        let (x, y) = (x.at(range.start).cast_const(), y.at(range.start));
        // SAFETY: a range of whole blocks, read and written by this task alone.
        unsafe { format.round_trip(cx.isa, x, range.len(), y) };
    });
}

/// Runs `body` over `n` elements.
fn tasks(cx: &Context, n: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
    let part = split(n, TASK);
    cx.pool.run(n.div_ceil(TASK), &|task, _| body(part(task)));
}

/// Where the block of a range's first element lies.
fn bytes(format: Format, range: &Range<usize>) -> usize {
    range.start / format.block_elems() * format.block_bytes()
}
