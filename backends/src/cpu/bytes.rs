//! Products of int8 operands.

use tenon_kernels::gemm::bytes::{Bytes, Right, Scales};
use tenon_runtime::TensorDesc;
use tenon_runtime::backend::Signature;

use super::Context;
use super::args::Args;
use super::gemm::line;

fn product(cx: &Context, trans_b: bool, a: &TensorDesc, y: &TensorDesc) -> Bytes {
    Bytes::new(cx.isa, [y.rows(), y.cols(), a.cols()], trans_b).with_caches(cx.caches)
}

pub(super) fn workspace(cx: &Context, trans_b: bool, signature: Signature<'_>) -> usize {
    let product = product(cx, trans_b, signature.inputs[0], signature.outputs[0]);
    let own = line(product.scratch_len());
    (line(product.shared_len()) + cx.pool.threads() * own) * size_of::<f32>()
}

/// Packs A, then multiplies; operands are A, B, their scales, and a bias where there is one.
pub(super) fn launch(cx: &Context, trans_b: bool, args: Args<'_>) {
    let product = product(cx, trans_b, args.input_desc(0), args.output_desc(0));
    let (a, b) = (args.raw_input::<i8>(0), args.input::<i8>(1));
    let [scales_a, scales_b] = [2, 3].map(|i| Scales::new(args.input::<f32>(i)));
    let bias = if args.inputs() > 4 { args.input::<f32>(4).as_ptr() } else { std::ptr::null() };
    let (shared, own) = (line(product.shared_len()), line(product.scratch_len()));
    let (space, c) = (args.scratch::<f32>(), args.output::<f32>(0));
    let (packed, scratch) = (space.part(0..shared), space.part(shared..space.len()));
    cx.pool.run(product.pack_tasks(), &|task, _| {
        // SAFETY: operands of the sizes the product was made for; each task has its panels.
        unsafe { product.pack(task, a.at(0), scales_a, packed.start()) }
    });
    let right = Right { b: b.as_ptr(), scales: scales_b, bias };
    cx.pool.run(product.tasks(), &|task, thread| {
        // SAFETY: as above; each thread has its part of the scratch, each task its part of C.
        unsafe {
            let scratch = scratch.piece(thread * own..(thread + 1) * own).as_mut_ptr();
            product.run(task, packed.start(), right, c.start(), scratch);
        }
    });
}
