//! Matrix products over the pool.

use tenon_kernels::gemm::{Epilogue, Gemm};
use tenon_kernels::quant::Format;
use tenon_runtime::TensorDesc;
use tenon_runtime::backend::{GemmLaunch, Signature};

use super::Context;
use super::args::{Args, Pieces};

/// From this many products on, each is one task; fewer are cut up inside.
const MANY: usize = 4;

/// A batch of products of one shape.
struct Batch<'a> {
    gemm: Gemm,
    /// Leading axes of Y, of A and of B, aligned at the end.
    dims: [&'a [usize]; 3],
    count: usize,
}

impl<'a> Batch<'a> {
    fn new(
        cx: &Context,
        spec: &GemmLaunch,
        a: &'a TensorDesc,
        b: &'a TensorDesc,
        y: &'a TensorDesc,
    ) -> Self {
        let last = |d: &TensorDesc| {
            let shape = d.shape();
            (shape[shape.len() - 2], shape[shape.len() - 1])
        };
        let format = b.dtype().format().unwrap_or(Format::F32);
        let sizes = if spec.fold {
            [a.rows(), y.cols(), a.cols()]
        } else {
            let (m, n) = last(y);
            let (rows, columns) = last(a);
            [m, n, if spec.trans_a { rows } else { columns }]
        };
        let leading = |d: &'a TensorDesc| -> &'a [usize] {
            let shape = d.shape();
            if spec.fold { &[] } else { &shape[..shape.len() - 2] }
        };
        let dims = [leading(y), leading(a), leading(b)];
        let gemm = Gemm::new(cx.isa, sizes, spec.trans_a, format, spec.trans_b)
            .with_precision(spec.precision)
            .with_caches(cx.caches);
        Self { gemm, count: dims[0].iter().product(), dims }
    }

    /// Which matrix of operand `which` belongs to product `index`: axes of size 1 stay.
    fn matrix(&self, which: usize, index: usize) -> usize {
        let (out, own) = (self.dims[0], self.dims[which]);
        let (mut rest, mut at, mut step) = (index, 0, 1);
        for (i, &size) in out.iter().enumerate().rev() {
            let position = rest % size;
            rest /= size;
            let Some(axis) = (i + own.len()).checked_sub(out.len()) else { continue };
            if own[axis] != 1 {
                at += position * step;
            }
            step *= own[axis];
        }
        at
    }
}

pub(super) fn workspace(cx: &Context, spec: &GemmLaunch, signature: Signature<'_>) -> usize {
    let Signature { inputs, outputs, .. } = signature;
    let batch = Batch::new(cx, spec, inputs[0], inputs[1], outputs[0]);
    let (shared, scratch) = (line(batch.gemm.shared_len()), line(batch.gemm.scratch_len()));
    let threads = cx.pool.threads();
    let len =
        if batch.count >= MANY { threads * (shared + scratch) } else { shared + threads * scratch };
    len * size_of::<f32>()
}

/// Rounds a length in f32 up to whole cache lines.
pub(super) fn line(len: usize) -> usize {
    len.next_multiple_of(16)
}

pub(super) fn launch(cx: &Context, spec: &GemmLaunch, args: Args<'_>) {
    let (a, b, y) = (args.input_desc(0), args.input_desc(1), args.output_desc(0));
    let batch = Batch::new(cx, spec, a, b, y);
    let gemm = &batch.gemm;
    let bias = if args.inputs() > 2 { args.input::<f32>(2).as_ptr() } else { std::ptr::null() };
    let epilogue = Epilogue { accumulate: false, bias, activation: spec.activation };
    let (a, b) = (args.input::<f32>(0), args.input_bytes(1));
    let b_bytes = b.len() / batch.dims[2].iter().product::<usize>().max(1);
    let product = |index: usize| Product {
        gemm,
        a: a[batch.matrix(1, index) * gemm.m * gemm.k..].as_ptr(),
        b: b[batch.matrix(2, index) * b_bytes..].as_ptr(),
        c: args.output(0).offset(index * gemm.m * gemm.n),
        epilogue,
    };
    let (shared, scratch) = (line(gemm.shared_len()), line(gemm.scratch_len()));
    let space = args.scratch::<f32>();
    if batch.count >= MANY {
        cx.pool.run(batch.count, &|index, thread| {
            // SAFETY: each thread has a part of the scratch of its own.
            let own = unsafe {
                space.piece(thread * (shared + scratch)..(thread + 1) * (shared + scratch))
            };
            let (packed, own) = own.split_at_mut(shared);
            product(index).run_alone(packed, own);
        });
    } else {
        for index in 0..batch.count {
            product(index).run(cx, space.part(0..shared), space.part(shared..space.len()));
        }
    }
}

/// One product with its operands.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) gemm: &'a Gemm,
    pub(super) a: *const f32,
    pub(super) b: *const u8,
    pub(super) c: Pieces<f32>,
    pub(super) epilogue: Epilogue,
}

// SAFETY: the pointers are operands of the running launch; tasks write disjoint parts of C.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    /// Runs over the pool: A is packed into `packed`, each thread has its part of `scratch`.
    pub(super) fn run(self, cx: &Context, packed: Pieces<f32>, scratch: Pieces<f32>) {
        self.pack(cx, packed);
        self.multiply(cx, packed, scratch);
    }

    /// Packs A.
    pub(super) fn pack(self, cx: &Context, packed: Pieces<f32>) {
        let this = &self;
        cx.pool.run(self.gemm.pack_tasks(), &|task, _| {
            // SAFETY: operands of the sizes the product was made for; each task has its panels.
            unsafe { this.gemm.pack(task, this.a, packed.start()) }
        });
    }

    /// Multiplies with A packed already.
    pub(super) fn multiply(self, cx: &Context, packed: Pieces<f32>, scratch: Pieces<f32>) {
        let own = line(self.gemm.scratch_len());
        let this = &self;
        cx.pool.run(self.gemm.tasks(), &|task, thread| {
            // SAFETY: as above; each thread has its part of the scratch, each task its part of C.
            unsafe {
                let scratch = scratch.piece(thread * own..(thread + 1) * own).as_mut_ptr();
                let (c, left) = (this.c.start(), this.gemm.left(this.a, packed.start()));
                this.gemm.run(task, left, this.b, c, this.epilogue, scratch);
            }
        });
    }

    /// Runs on the calling thread.
    fn run_alone(self, packed: &mut [f32], scratch: &mut [f32]) {
        let (packed, scratch) = (packed.as_mut_ptr(), scratch.as_mut_ptr());
        // SAFETY: as above, one task after another.
        unsafe {
            for task in 0..self.gemm.pack_tasks() {
                self.gemm.pack(task, self.a, packed);
            }
            let left = self.gemm.left(self.a, packed);
            for task in 0..self.gemm.tasks() {
                self.gemm.run(task, left, self.b, self.c.start(), self.epilogue, scratch);
            }
        }
    }
}
