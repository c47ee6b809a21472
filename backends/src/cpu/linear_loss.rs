//! Head and loss of a language model, strip by strip: the logits never exist whole.

use std::ops::Range;

use tenon_kernels::gemm::{Epilogue, Gemm, Precision};
use tenon_kernels::quant::Format;
use tenon_kernels::row::cross_entropy::{self, Running, Strip};
use tenon_runtime::backend::{LinearLoss, LossPart, Signature};
use tenon_runtime::{Result, TensorDesc};

use super::Context;
use super::args::{Args, Pieces};
use super::gemm::{Product, line};
use super::row::{check_targets, mean};

/// Rows of a task of the passes over a strip.
const ROWS: usize = 8;

/// The sizes of a launch and how its scratch is divided.
#[derive(Clone, Copy)]
struct Head<'a> {
    cx: &'a Context,
    spec: &'a LinearLoss,
    /// The rows of x at work: all, or a block.
    first: usize,
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
    /// A row's running sum (two f32), and its factor.
    rows: Range<usize>,
    /// The threads' own.
    threads: Range<usize>,
}

impl<'a> Head<'a> {
    fn new(cx: &'a Context, spec: &'a LinearLoss, x: &TensorDesc, w: &TensorDesc) -> Self {
        let format = w.dtype().format().unwrap_or(Format::F32);
        let row_bytes = format.row_bytes(w.cols()).unwrap_or(0);
        let rows = match spec.part {
            LossPart::Blocks { rows } => rows.min(x.rows()),
            _ => x.rows(),
        };
        Self { cx, spec, first: 0, rows, width: x.cols(), vocab: w.rows(), format, row_bytes }
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
        self.product(sizes, false, self.format, true, self.spec.precision)
    }

    /// `dx[rows, width] += strip W[strip]`.
    fn dx(&self, n: usize) -> Gemm {
        let sizes = [self.rows, self.width, n];
        self.product(sizes, false, self.format, false, self.spec.precision)
    }

    /// `dW[strip] = strip^T x`.
    fn dw(&self, n: usize) -> Gemm {
        let sizes = [n, self.width, self.rows];
        self.product(sizes, true, Format::F32, false, self.spec.precision.or_f32(true))
    }

    fn product(
        &self,
        sizes: [usize; 3],
        trans_a: bool,
        format: Format,
        trans_b: bool,
        precision: Precision,
    ) -> Gemm {
        Gemm::new(self.cx.isa, sizes, trans_a, format, trans_b)
            .with_precision(precision)
            .with_caches(self.cx.caches)
    }

    /// Whether the logits of all strips are kept.
    fn keeps(&self) -> bool {
        matches!(self.spec.part, LossPart::Blocks { .. })
    }

    fn scratch(&self) -> Scratch {
        let n = self.strip_width();
        let products = [self.logits(n), self.dx(n), self.dw(n)];
        let own = products.iter().map(|g| line(g.scratch_len())).max().unwrap_or(0);
        let packed = match self.spec.part {
            LossPart::Forward => 0,
            LossPart::Both => products[1].shared_len(),
            LossPart::Backward | LossPart::Blocks { .. } => {
                products[1].shared_len().max(products[2].shared_len())
            }
        };
        let kept = if self.keeps() { self.vocab } else { n };
        let mut end = 0;
        let mut take = |len: usize| {
            let start = end;
            end += line(len);
            start..end
        };
        Scratch {
            // After the strips, `both` decodes a row of W for each task there.
            strip: take((self.rows * kept).max(self.rows.div_ceil(ROWS) * self.width)),
            x: take(products[0].shared_len()),
            packed: take(packed),
            rows: take(3 * self.rows),
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
    match spec.part {
        LossPart::Forward => head.forward(args, targets, count),
        LossPart::Backward => head.backward(args, targets, count),
        LossPart::Both => head.both(args, targets, count),
        LossPart::Blocks { rows } => head.blocks(args, targets, count, rows),
    }
    Ok(())
}

impl Head<'_> {
    fn forward(&self, args: Args<'_>, targets: &[i32], count: usize) {
        let total = self.losses(args, &self.scratch(), targets);
        self.put_loss(args, total, count);
    }

    /// Block after block: the sums of its rows, then their gradients from the logits that waited.
    fn blocks(&self, args: Args<'_>, targets: &[i32], count: usize, rows: usize) {
        let scratch = self.scratch();
        let scale = args.input::<f32>(3)[0] / count.max(1) as f32;
        let mut total = 0.0;
        for (i, targets) in targets.chunks(rows.max(1)).enumerate() {
            let block = Self { first: i * rows, rows: targets.len(), ..*self };
            total += block.losses(args, &scratch, targets);
            // SAFETY: the launch's own output, written by tasks that are done.
            let lse = unsafe { block.rows_of(args.output::<f32>(1), 1).all() };
            block.gradients(args, &scratch, targets, lse, scale, 2);
        }
        self.put_loss(args, total, count);
    }

    /// The rows' logsumexp, as output 1, and the sum of their losses.
    fn losses(&self, args: Args<'_>, scratch: &Scratch, targets: &[i32]) -> f64 {
        let (running, _) = self.row_scratch(args, scratch);
        let hits = self.rows_of(args.output::<f32>(1), 1);
        self.pack_x(args, scratch);
        for strip in self.strips() {
            let n = strip.len();
            let logits = self.strip(args, scratch, &strip);
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
                keep_hits(&strip, logits, &targets[rows], hits);
                cross_entropy::accumulate(self.cx.isa, n, logits, running);
            });
            self.release(args, &strip);
        }
        self.finish(args, targets, running)
    }

    /// The rows at work of a matrix of `cols` columns.
    fn rows_of(&self, all: Pieces<f32>, cols: usize) -> Pieces<f32> {
        all.part(self.first * cols..(self.first + self.rows) * cols)
    }

    /// The running sums of all rows, at their start, and room for a factor each.
    fn row_scratch(&self, args: Args<'_>, scratch: &Scratch) -> (Pieces<Running>, Pieces<f32>) {
        let part = args.scratch::<f32>().part(scratch.rows.clone());
        // SAFETY: the part is this launch's own; `Running` is two f32.
        let running: &mut [Running] =
            unsafe { std::slice::from_raw_parts_mut(part.start().cast(), self.rows) };
        running.fill(Running::START);
        (Pieces::new(running), part.part(2 * self.rows..3 * self.rows))
    }

    /// Turns the targets' logits that wait in output 1 into the rows' logsumexp; the sum of the
    /// losses.
    fn finish(&self, args: Args<'_>, targets: &[i32], running: Pieces<Running>) -> f64 {
        // SAFETY: all tasks are done.
        let (running, lse) =
            unsafe { (running.all(), self.rows_of(args.output::<f32>(1), 1).all()) };
        let mut total = 0f64;
        for ((lse, running), &target) in lse.iter_mut().zip(running).zip(targets) {
            let hit = *lse;
            *lse = running.lse();
            if target != self.spec.ignore_index {
                total += f64::from(*lse - hit);
            }
        }
        total
    }

    fn put_loss(&self, args: Args<'_>, total: f64, count: usize) {
        // SAFETY: nobody else writes the output.
        unsafe { args.output::<f32>(0).all()[0] = mean(total, count) };
    }

    /// Loss and `dx`: exponentials relative to the greatest logit so far go into `dx` strip by
    /// strip; at the end each row is divided by their sum and loses its target's row of W.
    fn both(&self, args: Args<'_>, targets: &[i32], count: usize) {
        let scratch = self.scratch();
        let (running, factors) = self.row_scratch(args, &scratch);
        let (hits, dx) = (args.output::<f32>(1), args.output::<f32>(2));
        let space = args.scratch::<f32>();
        let packed = space.part(scratch.packed.clone());
        let threads = space.part(scratch.threads.clone());
        let tasks = self.rows.div_ceil(ROWS);
        self.pack_x(args, &scratch);
        for strip in self.strips() {
            let n = strip.len();
            let logits = self.strip(args, &scratch, &strip);
            self.cx.pool.run(tasks, &|task, _| {
                let rows = task * ROWS..((task + 1) * ROWS).min(self.rows);
                // SAFETY: tasks take disjoint rows.
                let (logits, running, factors, hits, dx) = unsafe {
                    (
                        logits.piece(rows.start * n..rows.end * n),
                        running.piece(rows.clone()),
                        factors.piece(rows.clone()),
                        hits.piece(rows.clone()),
                        dx.piece(rows.start * self.width..rows.end * self.width),
                    )
                };
                keep_hits(&strip, logits, &targets[rows], hits);
                cross_entropy::exponentials(self.cx.isa, n, logits, running, factors);
                if strip.start > 0 {
                    rescale(dx, self.width, factors);
                }
            });
            let epilogue = Epilogue { accumulate: strip.start > 0, ..Epilogue::NONE };
            let (a, b) = (logits.start().cast_const(), self.weight(args, &strip));
            let gemm = &self.dx(n);
            Product { gemm, a, b, c: dx, epilogue }.run(self.cx, packed, threads);
            self.release(args, &strip);
        }
        let scale = args.input::<f32>(3)[0] / count.max(1) as f32;
        self.cx.pool.run(tasks, &|task, _| {
            let rows = task * ROWS..((task + 1) * ROWS).min(self.rows);
            let all = args.input_bytes(1);
            // SAFETY: tasks take disjoint rows; the strip's memory is free by now.
            let (dx, running, decoded) = unsafe {
                (
                    dx.piece(rows.start * self.width..rows.end * self.width),
                    running.piece(rows.clone()),
                    space
                        .part(scratch.strip.clone())
                        .piece(task * self.width..(task + 1) * self.width),
                )
            };
            // A width of 0 has no rows to finish.
            let dx = dx.chunks_exact_mut(self.width.max(1));
            for ((row, dx), running) in rows.zip(dx).zip(running) {
                let counts = targets[row] != self.spec.ignore_index;
                let Some(target) = usize::try_from(targets[row]).ok().filter(|_| counts) else {
                    dx.fill(0.0);
                    continue;
                };
                let stored = all[target * self.row_bytes..].as_ptr();
                // SAFETY: a whole row of the weight, and room for it; targets were checked.
                unsafe {
                    self.format.decode(self.cx.isa, stored, self.width, decoded.as_mut_ptr());
                }
                self.release(args, &(target..target + 1));
                let share = scale / running.sum;
                for (dx, w) in dx.iter_mut().zip(&*decoded) {
                    *dx = *dx * share - scale * w;
                }
            }
        });
        let total = self.finish(args, targets, running);
        self.put_loss(args, total, count);
    }

    fn backward(&self, args: Args<'_>, targets: &[i32], count: usize) {
        let scratch = self.scratch();
        let (lse, dloss) = (args.input::<f32>(3), args.input::<f32>(4)[0]);
        self.pack_x(args, &scratch);
        self.gradients(args, &scratch, targets, lse, dloss / count.max(1) as f32, 0);
    }

    /// The gradients toward x and, where there is an output after it, toward W; `dx` is output `to`.
    fn gradients(
        &self,
        args: Args<'_>,
        scratch: &Scratch,
        targets: &[i32],
        lse: &[f32],
        scale: f32,
        to: usize,
    ) {
        let space = args.scratch::<f32>();
        let dx = self.rows_of(args.output::<f32>(to), self.width);
        let scales = space.part(scratch.rows.start..scratch.rows.start + self.rows);
        // SAFETY: the part is this launch's own.
        let scales = unsafe { scales.all() };
        scales.fill(scale);
        let scales = &*scales;
        let packed = space.part(scratch.packed.clone());
        let threads = space.part(scratch.threads.clone());
        for strip in self.strips() {
            let n = strip.len();
            let logits = if self.keeps() {
                self.place(args, scratch, &strip)
            } else {
                self.strip(args, scratch, &strip)
            };
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
                        scale: &scales[rows],
                    },
                );
            });
            let a = logits.start().cast_const();
            let adding = |accumulate| Epilogue { accumulate, ..Epilogue::NONE };
            let (gemm, b) = (&self.dx(n), self.weight(args, &strip));
            let epilogue = adding(strip.start > 0);
            Product { gemm, a, b, c: dx, epilogue }.run(self.cx, packed, threads);
            self.release(args, &strip);
            if args.outputs() > to + 1 {
                let c = args.output::<f32>(to + 1).offset(strip.start * self.width);
                let (gemm, b) = (&self.dw(n), self.x(args).cast());
                let epilogue = adding(self.first > 0);
                Product { gemm, a, b, c, epilogue }.run(self.cx, packed, threads);
            }
        }
    }

    /// The rows of x at work.
    fn x(&self, args: Args<'_>) -> *const f32 {
        args.input::<f32>(0)[self.first * self.width..].as_ptr()
    }

    /// The weight's rows of a strip.
    fn weight(&self, args: Args<'_>, strip: &Range<usize>) -> *const u8 {
        args.input_bytes(1)[strip.start * self.row_bytes..].as_ptr()
    }

    /// Lets go of a strip's rows of the weight, where nobody reads them soon: at the loss, when most
    /// is alive, an embedding would be resident whole.
    fn release(&self, args: Args<'_>, strip: &Range<usize>) {
        args.release(1, strip.start * self.row_bytes..strip.end * self.row_bytes);
    }

    /// Packs x once for all strips: its layout does not depend on the strip's width.
    fn pack_x(&self, args: Args<'_>, scratch: &Scratch) {
        let space = args.scratch::<f32>();
        let gemm = &self.logits(self.strip_width());
        let (a, b) = (self.x(args), args.input_ptr(1));
        let c = space.part(scratch.strip.clone());
        let product = Product { gemm, a, b, c, epilogue: Epilogue::NONE };
        product.pack(self.cx, space.part(scratch.x.clone()));
    }

    /// Where the logits of a strip lie: behind those of earlier ones where these are kept.
    fn place(&self, args: Args<'_>, scratch: &Scratch, strip: &Range<usize>) -> Pieces<f32> {
        let first = if self.keeps() { strip.start * self.rows } else { 0 };
        let len = self.rows * strip.len();
        args.scratch::<f32>().part(scratch.strip.clone()).part(first..first + len)
    }

    /// Computes the logits of a strip.
    fn strip(&self, args: Args<'_>, scratch: &Scratch, strip: &Range<usize>) -> Pieces<f32> {
        let space = args.scratch::<f32>();
        let gemm = &self.logits(strip.len());
        let (a, b) = (self.x(args), self.weight(args, strip));
        let c = self.place(args, scratch, strip);
        let product = Product { gemm, a, b, c, epilogue: Epilogue::NONE };
        let threads = space.part(scratch.threads.clone());
        product.multiply(self.cx, space.part(scratch.x.clone()), threads);
        c
    }
}

/// Keeps the logits of those targets that lie in the strip.
fn keep_hits(strip: &Range<usize>, logits: &[f32], targets: &[i32], hits: &mut [f32]) {
    for ((row, &target), hit) in logits.chunks_exact(strip.len()).zip(targets).zip(hits) {
        if let Some(t) = usize::try_from(target).ok().filter(|t| strip.contains(t)) {
            *hit = row[t - strip.start];
        }
    }
}

/// Multiplies each row by its factor, where that is not 1.
fn rescale(x: &mut [f32], width: usize, factors: &[f32]) {
    let rows = x.chunks_exact_mut(width.max(1));
    for (row, &factor) in rows.zip(factors).filter(|(_, f)| **f != 1.0) {
        row.iter_mut().for_each(|v| *v *= factor);
    }
}
