//! Another element type.

use half::{bf16, f16};
use tenon_kernels::cast::{Storage, narrow, widen};
use tenon_runtime::tensor::Element;
use tenon_runtime::{DType, Result};

use super::Context;
use super::args::{Args, GRAIN, split};

/// Input 0 in output 0's type; one of the two is f32.
pub(super) fn launch(cx: &Context, args: Args<'_>) -> Result<()> {
    match (args.input_desc(0).dtype(), args.output_desc(0).dtype()) {
        (DType::F32, DType::F32) => copy(cx, args),
        (DType::F16, DType::F32) => from::<f16>(cx, args),
        (DType::BF16, DType::F32) => from::<bf16>(cx, args),
        (DType::I8, DType::F32) => from::<i8>(cx, args),
        (DType::U8, DType::F32) => from::<u8>(cx, args),
        (DType::I32, DType::F32) => from::<i32>(cx, args),
        (DType::F32, DType::F16) => to::<f16>(cx, args),
        (DType::F32, DType::BF16) => to::<bf16>(cx, args),
        (DType::F32, DType::I8) => to::<i8>(cx, args),
        (DType::F32, DType::U8) => to::<u8>(cx, args),
        (DType::F32, DType::I32) => to::<i32>(cx, args),
        (from, to) => return Err(args.unsupported(&format_args!("{from} to {to}"))),
    }
    Ok(())
}

/// f32 to f32.
fn copy(cx: &Context, args: Args<'_>) {
    convert::<f32, f32>(cx, args, &|x, y| y.copy_from_slice(x));
}

/// `T` to f32.
fn from<T: Element + Storage>(cx: &Context, args: Args<'_>) {
    convert::<T, f32>(cx, args, &|x, y| widen(cx.isa, x, y));
}

/// f32 to `T`.
fn to<T: Element + Storage>(cx: &Context, args: Args<'_>) {
    convert::<f32, T>(cx, args, &|x, y| narrow(cx.isa, x, y));
}

/// Runs `body` on matching pieces of input and output.
fn convert<X: Element, Y: Element>(
    cx: &Context,
    args: Args<'_>,
    body: &(dyn Fn(&[X], &mut [Y]) + Sync),
) {
    let (x, y) = (args.input::<X>(0), args.output::<Y>(0));
    let part = split(x.len(), GRAIN);
    cx.pool.run(x.len().div_ceil(GRAIN), &|task, _| {
        let range = part(task);
        // SAFETY: tasks take disjoint ranges, and a cast never runs in place.
        body(&x[range.clone()], unsafe { y.piece(range) });
    });
}
