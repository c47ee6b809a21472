//! Head and loss of a language model, strip by strip: the logits never exist whole.

use std::ops::Range;

use tenon_kernels::gemm::{Epilogue, Gemm};
use tenon_kernels::quant::Format;
use tenon_kernels::row::cross_entropy::{self, Running, Strip};
use tenon_runtime::backend::{LinearLoss, Signature};
use tenon_runtime::{Result, TensorDesc};

use super::Context;
use super::args::{Args, Pieces};
use super::gemm::{Product, line};
use super::row::{check_targets, mean};

/// Rows of a task of the passes over a strip.
const ROWS: usize = 8;

/// The sizes of a launch and how its scratch is divided.
struct Head<'a> {
    cx: &'a Context,
    spec: &'a LinearLoss,
    rows: usize,
    width: usize,
    vocab: usize,
    format: Format,
    /// Bytes of a row of the weight.
    row_bytes: usize,
}

/// Parts of the scratch, in f32.
struct Scratch {
    strip: Range<usize>,
    /// Packed x.
    x: Range<usize>,
    /// The packed strip of gradients, for dx and then for dW.
    packed: Range<usize>,
    /// Two f32 a row: running sums forward, scale and nothing backward.
    rows: Range<usize>,
    /// The threads' own.
    threads: Range<usize>,
}

impl<'a> Head<'a> {
    fn new(cx: &'a Context, spec: &'a LinearLoss, x: &TensorDesc, w: &TensorDesc) -> Self {
        let format = w.dtype().format().unwrap_or(Format::F32);
        let row_bytes = format.row_bytes(w.cols()).unwrap_or(0);
        Self { cx, spec, rows: x.rows(), width: x.cols(), vocab: w.rows(), format, row_bytes }
    }

    fn strip_width(&self) -> usize {
        self.vocab.min(LinearLoss::STRIP)
    }

    fn strips(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (vocab, step) = (self.vocab, LinearLoss::STRIP);
        (0..vocab).step_by(step).map(move |first| first..(first + step).min(vocab))
    }

    /// `strip[rows, n] = x W[strip]^T`.
    fn logits(&self, n: usize) -> Gemm {
        let sizes = [self.rows, n, self.width];
        Gemm::new(self.cx.isa, sizes, false, self.format, true).with_precision(self.spec.precision)
    }

    /// `dx[rows, width] += strip W[strip]`.
    fn dx(&self, n: usize) -> Gemm {
        let sizes = [self.rows, self.width, n];
        Gemm::new(self.cx.isa, sizes, false, self.format, false).with_precision(self.spec.precision)
    }

    /// `dW[strip] = strip^T x`.
    fn dw(&self, n: usize) -> Gemm {
        let sizes = [n, self.width, self.rows];
        Gemm::new(self.cx.isa, sizes, true, Format::F32, false).with_precision(self.spec.precision)
    }

    fn scratch(&self) -> Scratch {
        let n = self.strip_width();
        let products = [self.logits(n), self.dx(n), self.dw(n)];
        let own = products.iter().map(|g| line(g.scratch_len())).max().unwrap_or(0);
        let packed = if self.spec.backward {
            line(products[1].shared_len().max(products[2].shared_len()))
        } else {
            0
        };
        let mut end = 0;
        let mut take = |len: usize| {
            let start = end;
            end += line(len);
            start..end
        };
        Scratch {
            strip: take(self.rows * n),
            x: take(products[0].shared_len()),
            packed: take(packed),
            rows: take(2 * self.rows),
            threads: take(own * self.cx.pool.threads()),
        }
    }
}

/// Scratch bytes: a strip of logits, packed operands, the threads' own.
pub(super) fn workspace(cx: &Context, spec: &LinearLoss, signature: Signature<'_>) -> usize {
    let head = Head::new(cx, spec, signature.inputs[0], signature.inputs[1]);
    head.scratch().threads.end * size_of::<f32>()
}

pub(super) fn launch(cx: &Context, spec: &LinearLoss, args: Args<'_>) -> Result<()> {
    let head = Head::new(cx, spec, args.input_desc(0), args.input_desc(1));
    let targets = args.input::<i32>(2);
    let count = check_targets(args.op(), targets, head.vocab, spec.ignore_index)?;
    if spec.backward {
        head.backward(args, targets, count);
    } else {
        head.forward(args, targets, count);
    }
    Ok(())
}

impl Head<'_> {
    fn forward(&self, args: Args<'_>, targets: &[i32], count: usize) {
        let scratch = self.scratch();
        let space = args.scratch::<f32>();
        // SAFETY: the part is this launch's own; `Running` is two f32.
        let running: &mut [Running] = unsafe {
            let part = space.piece(scratch.rows.start..scratch.rows.start + 2 * self.rows);
            std::slice::from_raw_parts_mut(part.as_mut_ptr().cast(), self.rows)
        };
        running.fill(Running::START);
        let running = Pieces::new(running);
        // The target's logit waits in the output of the row's logsumexp.
        let hits = args.output::<f32>(1);
        self.pack_x(args, &scratch);
        for strip in self.strips() {
            let n = strip.len();
            let logits = self.strip(args, &scratch, &strip);
            self.cx.pool.run(self.rows.div_ceil(ROWS), &|task, _| {
                let rows = task * ROWS..((task + 1) * ROWS).min(self.rows);
                // SAFETY: tasks take disjoint rows.
                let (logits, running, hits) = unsafe {
                    (
                        logits.piece(rows.start * n..rows.end * n),
                        running.piece(rows.clone()),
                        hits.piece(rows.clone()),
                    )
                };
                cross_entropy::accumulate(self.cx.isa, n, logits, running);
                for (i, row) in rows.enumerate() {
                    let target = usize::try_from(targets[row]).ok();
                    if let Some(t) = target.filter(|t| strip.contains(t)) {
                        hits[i] = logits[i * n + t - strip.start];
                    }
                }
            });
        }
        // SAFETY: all tasks are done.
        let (running, lse) = unsafe { (running.all(), hits.all()) };
        let mut total = 0f64;
        for ((lse, running), &target) in lse.iter_mut().zip(running).zip(targets) {
            let hit = *lse;
            *lse = running.lse();
            if target != self.spec.ignore_index {
                total += f64::from(*lse - hit);
            }
        }
        // SAFETY: nobody else writes the output.
        unsafe { args.output::<f32>(0).all()[0] = mean(total, count) };
    }

    fn backward(&self, args: Args<'_>, targets: &[i32], count: usize) {
        let scratch = self.scratch();
        let (lse, dloss) = (args.input::<f32>(3), args.input::<f32>(4)[0]);
        let (space, dx) = (args.scratch::<f32>(), args.output::<f32>(0));
        // SAFETY: the part is this launch's own.
        let scale = unsafe { space.piece(scratch.rows.start..scratch.rows.start + self.rows) };
        scale.fill(dloss / count.max(1) as f32);
        let scale = &*scale;
        let packed = space.part(scratch.packed.clone());
        let threads = space.part(scratch.threads.clone());
        self.pack_x(args, &scratch);
        for strip in self.strips() {
            let n = strip.len();
            let logits = self.strip(args, &scratch, &strip);
            self.cx.pool.run(self.rows.div_ceil(ROWS), &|task, _| {
                let rows = task * ROWS..((task + 1) * ROWS).min(self.rows);
                cross_entropy::gradient(
                    self.cx.isa,
                    Strip {
                        first: strip.start,
                        cols: n,
                        // SAFETY: tasks take disjoint rows.
                        logits: unsafe { logits.piece(rows.start * n..rows.end * n) },
                        lse: &lse[rows.clone()],
                        targets: &targets[rows.clone()],
                        ignore: self.spec.ignore_index,
                        scale: &scale[rows],
                    },
                );
            });
            let a = logits.start().cast_const();
            let accumulate = Epilogue { accumulate: strip.start > 0, ..Epilogue::NONE };
            let b = self.weight(args, &strip);
            let gemm = &self.dx(n);
            Product { gemm, a, b, c: dx, epilogue: accumulate }.run(self.cx, packed, threads);
            if args.outputs() > 1 {
                let c = args.output::<f32>(1).offset(strip.start * self.width);
                let (gemm, b) = (&self.dw(n), args.input_ptr(0));
                Product { gemm, a, b, c, epilogue: Epilogue::NONE }.run(self.cx, packed, threads);
            }
        }
    }

    /// The weight's rows of a strip.
    fn weight(&self, args: Args<'_>, strip: &Range<usize>) -> *const u8 {
        args.input_bytes(1)[strip.start * self.row_bytes..].as_ptr()
    }

    /// Packs x once for all strips: its layout does not depend on the strip's width.
    fn pack_x(&self, args: Args<'_>, scratch: &Scratch) {
        let space = args.scratch::<f32>();
        let gemm = &self.logits(self.strip_width());
        let (a, b) = (args.input::<f32>(0).as_ptr(), args.input_ptr(1));
        let c = space.part(scratch.strip.clone());
        let product = Product { gemm, a, b, c, epilogue: Epilogue::NONE };
        product.pack(self.cx, space.part(scratch.x.clone()));
    }

    /// Computes the logits of a strip.
    fn strip(&self, args: Args<'_>, scratch: &Scratch, strip: &Range<usize>) -> Pieces<f32> {
        let space = args.scratch::<f32>();
        let gemm = &self.logits(strip.len());
        let (a, b) = (args.input::<f32>(0).as_ptr(), self.weight(args, strip));
        let c = space.part(scratch.strip.start..scratch.strip.start + self.rows * strip.len());
        let product = Product { gemm, a, b, c, epilogue: Epilogue::NONE };
        let threads = space.part(scratch.threads.clone());
        product.multiply(self.cx, space.part(scratch.x.clone()), threads);
        c
    }
}
