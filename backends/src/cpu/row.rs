//! Kernels over rows.

use std::ops::Range;

use tenon_kernels::index::target_out_of_range;
use tenon_kernels::row::cross_entropy::{self, Running, Strip};
use tenon_kernels::row::layer_norm::{LayerNorm, LayerNormGrad, layer_norm, layer_norm_grad};
use tenon_kernels::row::rms_norm::{AddRmsNorm, add_rms_norm, rms_norm, rms_norm_grad};
use tenon_kernels::row::rope::{Layout, Rope, rope};
use tenon_kernels::row::softmax::{log_softmax, log_softmax_grad, softmax, softmax_grad};
use tenon_runtime::backend::{Reduction, Row, Signature};
use tenon_runtime::{Error, Result};

use super::Context;
use super::args::{Args, GRAIN, Pieces};

/// Scratch bytes: the losses need a factor for each row.
pub(super) fn workspace(kind: &Row, signature: Signature<'_>) -> usize {
    match kind {
        Row::CrossEntropyGrad { .. } => signature.inputs[0].rows() * size_of::<f32>(),
        Row::CrossEntropy { .. } => signature.inputs[0].rows() * size_of::<f32>(),
        _ => 0,
    }
}

/// Runs a kernel over the rows of the last axis.
pub(super) fn launch(cx: &Context, kind: &Row, args: Args<'_>) -> Result<()> {
    let isa = cx.isa;
    let cols = args.input_desc(0).cols();
    let x = args.input::<f32>(0);
    let rows = Rows { cx, rows: x.len() / cols.max(1), cols };
    let second = || args.input::<f32>(1);
    match *kind {
        Row::Softmax => rows.map(args, |r, y| softmax(isa, cols, &x[r], y)),
        Row::LogSoftmax => rows.map(args, |r, y| log_softmax(isa, cols, &x[r], y)),
        Row::SoftmaxGrad => {
            let dy = second();
            rows.map(args, |r, dx| softmax_grad(isa, cols, &x[r.clone()], &dy[r], dx));
        }
        Row::LogSoftmaxGrad => {
            let dy = second();
            rows.map(args, |r, dx| log_softmax_grad(isa, cols, &x[r.clone()], &dy[r], dx));
        }
        Row::RmsNorm { eps } => {
            let (weight, rstd) = (second(), args.output::<f32>(1));
            rows.map(args, |r, y| {
                // SAFETY: tasks take disjoint rows.
                let rstd = unsafe { rstd.piece(r.start / cols..r.end / cols) };
                rms_norm(isa, eps, &x[r], weight, y, rstd);
            });
        }
        Row::AddRmsNorm { eps } => {
            let (h, weight) = (second(), args.input::<f32>(2));
            let (y, rstd) = (args.output::<f32>(1), args.output::<f32>(2));
            rows.map(args, |r, sum| {
                // SAFETY: tasks take disjoint rows.
                let (y, rstd) =
                    unsafe { (y.piece(r.clone()), rstd.piece(r.start / cols..r.end / cols)) };
                let (x, h) = (&x[r.clone()], &h[r]);
                add_rms_norm(isa, AddRmsNorm { eps, x, h, weight, sum, y, rstd });
            });
        }
        Row::RmsNormGrad => {
            let (weight, rstd, dy) = (second(), args.input::<f32>(2), args.input::<f32>(3));
            rows.map(args, |r, dx| {
                let rstd = &rstd[r.start / cols..r.end / cols];
                rms_norm_grad(isa, &x[r.clone()], weight, rstd, &dy[r], dx);
            });
        }
        Row::LayerNorm { eps } => layer_norm_rows(&rows, eps, args),
        Row::LayerNormGrad => layer_norm_grad_rows(&rows, args),
        Row::Rope { layout, inverse } => rope_rows(cx, layout, inverse, args),
        Row::CrossEntropy { ignore, reduction } => loss(&rows, ignore, reduction, args)?,
        Row::CrossEntropyGrad { ignore, reduction } => {
            loss_grad(&rows, ignore, reduction, args)?;
        }
    }
    Ok(())
}

/// Rows to be shared among tasks.
struct Rows<'a> {
    cx: &'a Context,
    rows: usize,
    cols: usize,
}

impl Rows<'_> {
    /// Calls `f` for groups of rows: their elements' range.
    fn each(&self, f: impl Fn(Range<usize>) + Sync) {
        let group = (GRAIN / self.cols.max(1)).max(1);
        self.cx.pool.run(self.rows.div_ceil(group), &|task, _| {
            let end = ((task + 1) * group).min(self.rows);
            f(task * group * self.cols..end * self.cols);
        });
    }

    /// Calls `f` for groups of rows, with their part of output 0.
    fn map(&self, args: Args<'_>, f: impl Fn(Range<usize>, &mut [f32]) + Sync) {
        let y = args.output::<f32>(0);
        self.each(|range| {
            // SAFETY: groups are disjoint.
            let part = unsafe { y.piece(range.clone()) };
            f(range, part);
        });
    }
}

fn layer_norm_rows(rows: &Rows<'_>, eps: f32, args: Args<'_>) {
    let cols = rows.cols;
    let x = args.input::<f32>(0);
    let operand = |i: usize| (args.inputs() > i).then(|| args.input::<f32>(i));
    let (weight, bias) = (operand(1), operand(2));
    let (mean, rstd) = (args.output::<f32>(1), args.output::<f32>(2));
    rows.map(args, |r, y| {
        let group = r.start / cols..r.end / cols;
        // SAFETY: tasks take disjoint rows.
        let (mean, rstd) = unsafe { (mean.piece(group.clone()), rstd.piece(group)) };
        layer_norm(rows.cx.isa, LayerNorm { eps, cols, x: &x[r], weight, bias, y, mean, rstd });
    });
}

fn layer_norm_grad_rows(rows: &Rows<'_>, args: Args<'_>) {
    let cols = rows.cols;
    let x = args.input::<f32>(0);
    let (mean, rstd, dy) = (args.input::<f32>(1), args.input::<f32>(2), args.input::<f32>(3));
    let weight = (args.inputs() > 4).then(|| args.input::<f32>(4));
    rows.map(args, |r, dx| {
        let group = r.start / cols..r.end / cols;
        let (mean, rstd) = (&mean[group.clone()], &rstd[group]);
        let (x, dy) = (&x[r.clone()], &dy[r]);
        layer_norm_grad(rows.cx.isa, LayerNormGrad { cols, x, weight, mean, rstd, dy, dx });
    });
}

/// One task a position of one sequence.
fn rope_rows(cx: &Context, layout: Layout, inverse: bool, args: Args<'_>) {
    let &[_, seq, heads, dim] = &args.input_desc(0).shape()[..] else { return };
    let (x, cos, sin) = (args.input::<f32>(0), args.input::<f32>(1), args.input::<f32>(2));
    let half = args.input_desc(1).cols();
    // Rows are positions here: all heads of one.
    let positions = Rows { cx, rows: x.len() / (heads * dim).max(1), cols: heads * dim };
    positions.map(args, |r, y| {
        for (i, y) in y.chunks_exact_mut(heads * dim).enumerate() {
            let first = r.start + i * heads * dim;
            let position = first / (heads * dim) % seq;
            let table = position * half..(position + 1) * half;
            let (x, cos, sin) = (&x[first..first + heads * dim], &cos[table.clone()], &sin[table]);
            rope(cx.isa, Rope { layout, inverse, heads, dim, x, cos, sin, y });
        }
    });
}

/// Refuses targets outside the classes; gives the number of rows that count.
pub(super) fn check_targets(
    op: &'static str,
    targets: &[i32],
    classes: usize,
    ignore: i32,
) -> Result<usize> {
    match target_out_of_range(targets, classes, ignore) {
        Some(position) => {
            Err(Error::Index { op, position, index: targets[position].into(), bound: classes })
        }
        None => Ok(targets.iter().filter(|&&t| t != ignore).count()),
    }
}

/// `total / count`, 0 for no row.
pub(super) fn mean(total: f64, count: usize) -> f32 {
    if count == 0 { 0.0 } else { (total / count as f64) as f32 }
}

fn loss(rows: &Rows<'_>, ignore: i32, reduction: Reduction, args: Args<'_>) -> Result<()> {
    let cols = rows.cols;
    let (logits, targets) = (args.input::<f32>(0), args.input::<i32>(1));
    let count = check_targets(args.op(), targets, cols, ignore)?;
    let (lse, losses) = (args.output::<f32>(1), args.scratch::<f32>());
    rows.each(|r| {
        let group = r.start / cols..r.end / cols;
        // SAFETY: tasks take disjoint rows.
        let (lse, losses) = unsafe { (lse.piece(group.clone()), losses.piece(group.clone())) };
        for (i, row) in group.enumerate() {
            let logits = &logits[row * cols..(row + 1) * cols];
            let mut running = [Running::START];
            cross_entropy::accumulate(rows.cx.isa, cols, logits, &mut running);
            lse[i] = running[0].lse();
            let target = usize::try_from(targets[row]).ok().filter(|_| targets[row] != ignore);
            losses[i] = target.map_or(0.0, |t| lse[i] - logits[t]);
        }
    });
    // SAFETY: all rows are done.
    let (losses, out) = unsafe { (losses.piece(0..rows.rows), args.output::<f32>(0).all()) };
    let total: f64 = losses.iter().map(|&l| f64::from(l)).sum();
    match reduction {
        Reduction::Mean => out[0] = mean(total, count),
        Reduction::Sum => out[0] = total as f32,
        Reduction::None => out.copy_from_slice(losses),
    }
    Ok(())
}

fn loss_grad(rows: &Rows<'_>, ignore: i32, reduction: Reduction, args: Args<'_>) -> Result<()> {
    let cols = rows.cols;
    let (logits, targets) = (args.input::<f32>(0), args.input::<i32>(1));
    let (lse, dloss) = (args.input::<f32>(2), args.input::<f32>(3));
    let count = check_targets(args.op(), targets, cols, ignore)?;
    let scale: Pieces<f32> = args.scratch();
    // SAFETY: before any task.
    for (row, scale) in unsafe { scale.piece(0..rows.rows) }.iter_mut().enumerate() {
        *scale = match reduction {
            Reduction::Mean => dloss[0] / count.max(1) as f32,
            Reduction::Sum => dloss[0],
            Reduction::None => dloss[row],
        };
    }
    rows.map(args, |r, dx| {
        let group = r.start / cols..r.end / cols;
        dx.copy_from_slice(&logits[r]);
        cross_entropy::gradient(
            rows.cx.isa,
            Strip {
                first: 0,
                cols,
                logits: dx,
                lse: &lse[group.clone()],
                targets: &targets[group.clone()],
                ignore,
                // SAFETY: written above, only read here.
                scale: unsafe { scale.piece(group) },
            },
        );
    });
    Ok(())
}
