//! Cross-entropy, of logits that exist and of a language model's head, whose logits do so a strip at
//! a time.

use std::ops::Range;

use tenon_kernels::quant::Format;
use tenon_runtime::DType;
use tenon_runtime::backend::{LinearLoss, LossPart, Reduction};

use super::gemm::{Product, format_code};
use super::row::lanes;
use super::{Access, Binding, Job, LANES, Place, read, update, word, write};
use crate::vulkan::shader::Shader;

/// Numbers of kernels of `loss.comp`.
const ACCUMULATE: u32 = 0;
const EXPONENTIALS: u32 = 1;
const GRADIENT: u32 = 2;
const GRADIENT_APART: u32 = 3;
/// Numbers of kernels of `finish.comp`; `launch/reduce.rs` has more.
const COUNT: u32 = 0;
const LOSSES: u32 = 1;
const LOSSES_APART: u32 = 2;
const LOSS: u32 = 3;

/// What a pass over rows of logits is told.
#[derive(Clone, Copy)]
struct Pass {
    kind: u32,
    rows: usize,
    cols: usize,
    /// First column, and whether it is the first strip.
    first: usize,
    ignore: i32,
    mean: bool,
    each_row: bool,
    width: usize,
    classes: usize,
    first_row: usize,
    logits: Binding,
    targets: Place,
    running: Place,
    lse: Place,
    scale: Place,
    count: Place,
    dx: Option<Place>,
}

impl Pass {
    fn run(&self, job: &mut Job<'_>) -> Option<()> {
        let params = [
            word(self.rows)?,
            word(self.cols)?,
            word(self.first)?,
            self.ignore.cast_unsigned(),
            u32::from(self.first == 0),
            u32::from(self.mean),
            u32::from(self.each_row),
            word(self.width)?,
            word(self.classes)?,
            word(self.first_row)?,
        ];
        let sums = matches!(self.kind, ACCUMULATE | EXPONENTIALS);
        let bindings = [
            self.logits,
            read(self.targets),
            if sums { update(self.running) } else { read(self.running) },
            read(self.lse),
            read(self.scale),
            read(self.count),
            match self.dx {
                Some(dx) if self.kind == EXPONENTIALS => update(dx),
                Some(dx) => write(dx),
                // Not used.
                None => read(self.running),
            },
        ];
        job.run(Shader::Loss, &[lanes(self.cols), self.kind], &params, &bindings, self.rows)
    }
}

/// Rows of targets that one workgroup counts, or turns from running sums into losses.
#[derive(Clone, Copy)]
struct Finish {
    rows: usize,
    ignore: i32,
    classes: usize,
    first_row: usize,
    targets: Place,
}

impl Finish {
    fn run(
        &self,
        job: &mut Job<'_>,
        kind: u32,
        [running, lse, y]: [Binding; 3],
        fresh: bool,
    ) -> Option<()> {
        let params = [
            word(self.rows)?,
            self.ignore.cast_unsigned(),
            word(self.classes)?,
            0,
            word(self.first_row)?,
            u32::from(fresh),
        ];
        let bindings = [running, read(self.targets), running, y, lse];
        job.run(Shader::Finish, &[LANES, kind], &params, &bindings, 1)
    }

    /// The number of rows that count, in scratch.
    fn count(&self, job: &mut Job<'_>) -> Option<Place> {
        let count = job.scratch(1);
        let (spare, y) = (read(self.targets), write(count));
        self.run(job, COUNT, [spare, y, y], true)?;
        Some(count)
    }
}

/// The loss from `sums`: the sum and the rows that count.
fn put_loss(job: &mut Job<'_>, sums: Place, mean: bool) -> Option<()> {
    let bindings = [read(sums), read(sums), read(sums), job.writes(0)];
    let params = [1, 0, 0, u32::from(mean), 0, 0];
    job.run(Shader::Finish, &[LANES, LOSS], &params, &bindings, 1)
}

pub(super) fn cross_entropy(job: &mut Job<'_>, ignore: i32, reduction: Reduction) -> Option<()> {
    let cols = job.input(0).cols();
    let rows = job.input(0).numel() / cols.max(1);
    let targets = job.inputs[1];
    let (running, sums) = (job.scratch(4 * rows), job.scratch(2));
    let pass = Pass {
        kind: ACCUMULATE,
        rows,
        cols,
        first: 0,
        ignore,
        mean: false,
        each_row: false,
        width: 0,
        classes: cols,
        first_row: 0,
        logits: job.reads(0),
        targets,
        running,
        lse: targets,
        scale: targets,
        count: targets,
        dx: None,
    };
    pass.run(job)?;
    let finish = Finish { rows, ignore, classes: cols, first_row: 0, targets };
    let lse = job.writes(1);
    if reduction == Reduction::None {
        let y = job.writes(0);
        return finish.run(job, LOSSES_APART, [read(running), lse, y], true);
    }
    finish.run(job, LOSSES, [read(running), lse, write(sums)], true)?;
    put_loss(job, sums, reduction == Reduction::Mean)
}

pub(super) fn cross_entropy_grad(
    job: &mut Job<'_>,
    ignore: i32,
    reduction: Reduction,
) -> Option<()> {
    let cols = job.input(0).cols();
    let rows = job.input(0).numel() / cols.max(1);
    let targets = job.inputs[1];
    let finish = Finish { rows, ignore, classes: cols, first_row: 0, targets };
    let mean = reduction == Reduction::Mean;
    let count = if mean { finish.count(job)? } else { targets };
    let pass = Pass {
        kind: GRADIENT_APART,
        rows,
        cols,
        first: 0,
        ignore,
        mean,
        each_row: reduction == Reduction::None,
        width: 0,
        classes: cols,
        first_row: 0,
        logits: job.reads(0),
        targets,
        running: targets,
        lse: job.inputs[2],
        scale: job.inputs[3],
        count,
        dx: Some(job.outputs[0]),
    };
    pass.run(job)
}

/// A head and its scratch.
#[derive(Clone, Copy)]
struct Head<'a> {
    spec: &'a LinearLoss,
    /// The rows of x at work.
    first: usize,
    rows: usize,
    width: usize,
    vocab: usize,
    format: Format,
    row_bytes: usize,
    x: Place,
    w: Place,
    targets: Place,
    lse: Place,
    logits: Place,
    running: Place,
    /// The sum of losses and the rows that count, or that number alone.
    sums: Place,
    /// What gradients are scaled by.
    scale: Place,
}

pub(super) fn linear(job: &mut Job<'_>, spec: &LinearLoss) -> Option<()> {
    let (x, w) = (job.input(0), job.input(1));
    let format = w.dtype().format()?;
    if x.dtype() != DType::F32 {
        return None;
    }
    let (all, width, vocab) = (x.rows(), x.cols(), w.rows());
    let rows = match spec.part {
        LossPart::Blocks { rows } => rows.min(all),
        _ => all,
    };
    let keeps = matches!(spec.part, LossPart::Blocks { .. });
    let strip = if keeps { vocab } else { vocab.min(LinearLoss::STRIP) };
    let is_backward = spec.part == LossPart::Backward;
    let head = Head {
        spec,
        first: 0,
        rows,
        width,
        vocab,
        format,
        row_bytes: format.row_bytes(width)?,
        x: job.inputs[0],
        w: job.inputs[1],
        targets: job.inputs[2],
        lse: if is_backward { job.inputs[3] } else { job.outputs[1] },
        logits: job.scratch(rows * strip),
        running: job.scratch(4 * rows),
        sums: job.scratch(2),
        scale: if is_backward {
            job.inputs[4]
        } else {
            *job.inputs.get(3).unwrap_or(&job.inputs[0])
        },
    };
    match spec.part {
        LossPart::Forward => head.losses(job, true)?,
        LossPart::Backward => {
            let count = head.finish(all).count(job)?;
            return head.gradients(job, count, 0);
        }
        LossPart::Both => head.both(job)?,
        LossPart::Blocks { rows } => {
            let count = head.finish(all).count(job)?;
            for first in (0..all).step_by(rows.max(1)) {
                let block = Head { first, rows: rows.min(all - first), ..head };
                block.losses(job, first == 0)?;
                block.gradients(job, count, 2)?;
            }
        }
    }
    put_loss(job, head.sums, true)
}

impl Head<'_> {
    fn finish(&self, rows: usize) -> Finish {
        Finish {
            rows,
            ignore: self.spec.ignore_index,
            classes: self.vocab,
            first_row: self.first,
            targets: self.targets,
        }
    }

    fn strips(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (vocab, step) = (self.vocab, LinearLoss::STRIP);
        (0..vocab).step_by(step).map(move |first| first..(first + step).min(vocab))
    }

    fn keeps(&self) -> bool {
        matches!(self.spec.part, LossPart::Blocks { .. })
    }

    /// Where a strip's logits lie: behind those of earlier ones where they are kept.
    fn place(&self, strip: &Range<usize>) -> Option<Place> {
        let at = if self.keeps() { strip.start * self.rows * 4 } else { 0 };
        // STRIP is a multiple of 16, so that every strip begins at a line.
        Some(self.logits.from(at).first(self.rows * strip.len() * 4))
    }

    /// The weight's rows of a strip.
    fn weight(&self, strip: &Range<usize>) -> Place {
        self.w.from(strip.start * self.row_bytes).first(strip.len() * self.row_bytes)
    }

    /// The rows at work of a matrix of `cols` columns: the lines they lie in, and the elements before
    /// them there.
    fn rows_of(&self, all: Place, cols: usize) -> (Place, usize) {
        let (at, len) = (self.first * cols * 4, self.rows * cols * 4);
        let before = at % 64;
        (all.from(at - before).first(before + len), before / 4)
    }

    fn pass(&self, kind: u32, strip: &Range<usize>, dx: Option<Place>) -> Option<Pass> {
        let place = self.place(strip)?;
        let access = if kind == ACCUMULATE { Access::Read } else { Access::ReadWrite };
        Some(Pass {
            kind,
            rows: self.rows,
            cols: strip.len(),
            first: strip.start,
            ignore: self.spec.ignore_index,
            mean: true,
            each_row: false,
            width: self.width,
            classes: self.vocab,
            first_row: self.first,
            logits: Binding { place, access },
            targets: self.targets,
            running: self.running,
            lse: self.lse,
            scale: self.scale,
            count: self.sums,
            dx,
        })
    }

    /// A product of the head. Operands with what lies before them: of A and C in elements, of B in
    /// bytes.
    fn product(
        &self,
        sizes: [usize; 3],
        [trans_a, trans_b]: [bool; 2],
        format: Format,
        add: bool,
        [(a, first_a), (b, first_b), (c, first_c)]: [(Place, usize); 3],
    ) -> Option<Product> {
        let precision = self.spec.precision.or_f32(trans_a);
        let (first, bias, axes) = ([first_a, first_b, first_c], None, Vec::new());
        Some(Product {
            sizes,
            trans_a,
            trans_b,
            format,
            precision,
            add,
            a,
            b,
            c,
            first,
            bias,
            axes,
        })
    }

    /// The logits of a strip.
    fn strip(&self, job: &mut Job<'_>, strip: &Range<usize>) -> Option<()> {
        let logits = (self.place(strip)?, 0);
        let places = [self.rows_of(self.x, self.width), (self.weight(strip), 0), logits];
        let sizes = [self.rows, strip.len(), self.width];
        self.product(sizes, [false, true], self.format, false, places)?.run(job)
    }

    /// `dx += strip W[strip]`.
    fn dx(&self, job: &mut Job<'_>, strip: &Range<usize>, to: Place) -> Option<()> {
        let logits = (self.place(strip)?, 0);
        let places = [logits, (self.weight(strip), 0), self.rows_of(to, self.width)];
        let sizes = [self.rows, self.width, strip.len()];
        let add = strip.start > 0;
        self.product(sizes, [false, false], self.format, add, places)?.run(job)
    }

    /// The rows' logsumexp, and the sum of their losses added to `sums`.
    fn losses(&self, job: &mut Job<'_>, fresh: bool) -> Option<()> {
        for strip in self.strips() {
            self.strip(job, &strip)?;
            self.pass(ACCUMULATE, &strip, None)?.run(job)?;
        }
        self.put_losses(job, fresh)
    }

    fn put_losses(&self, job: &mut Job<'_>, fresh: bool) -> Option<()> {
        let outputs = [read(self.running), update(self.lse), update(self.sums)];
        self.finish(self.rows).run(job, LOSSES, outputs, fresh)
    }

    /// The gradients toward x, output `to`, and toward W where there is an output after it.
    fn gradients(&self, job: &mut Job<'_>, count: Place, to: usize) -> Option<()> {
        for strip in self.strips() {
            if !self.keeps() {
                self.strip(job, &strip)?;
            }
            Pass { count, ..self.pass(GRADIENT, &strip, None)? }.run(job)?;
            self.dx(job, &strip, job.outputs[to])?;
            if job.outputs.len() > to + 1 {
                let c = job.outputs[to + 1].from(strip.start * self.width * 4);
                let c = c.first(strip.len() * self.width * 4);
                let (x, before) = self.rows_of(self.x, self.width);
                let places = [(self.place(&strip)?, 0), (x, 4 * before), (c, 0)];
                let sizes = [strip.len(), self.width, self.rows];
                let add = self.first > 0;
                self.product(sizes, [true, false], Format::F32, add, places)?.run(job)?;
            }
        }
        Some(())
    }

    /// Loss and dx in one pass over the strips, as the CPU does: exponentials relative to the greatest
    /// logit so far go into dx, and at the end each row is divided by their sum.
    fn both(&self, job: &mut Job<'_>) -> Option<()> {
        let dx = job.outputs[2];
        for strip in self.strips() {
            self.strip(job, &strip)?;
            self.pass(EXPONENTIALS, &strip, Some(dx))?.run(job)?;
            self.dx(job, &strip, dx)?;
        }
        self.put_losses(job, true)?;
        let bindings = [
            read(self.running),
            read(self.targets),
            read(self.scale),
            read(self.sums),
            read(self.w),
            update(dx),
        ];
        let params = [
            word(self.rows)?,
            word(self.width)?,
            self.spec.ignore_index.cast_unsigned(),
            word(self.vocab)?,
            word(self.row_bytes)?,
        ];
        let groups = (self.rows * self.width.div_ceil(4)).div_ceil(LANES as usize);
        let constants = [LANES, format_code(self.format)];
        job.run(Shader::LossTargets, &constants, &params, &bindings, groups)
    }
}
