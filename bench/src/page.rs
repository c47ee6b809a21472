//! The page of `tenon plan --html`: memory over a step, against time, against length.

use std::fmt::Write;

use indicatif::ProgressBar;
use tenon_runtime::memory::Plan;
use tenon_runtime::models::{GraphOptions, Model};
use tenon_runtime::train::{self, Trainer};
use tenon_runtime::{Error, Result};

use crate::chart::Chart;
use crate::measure::human;
use crate::options::Machine;

/// Budgets between the smallest and the plan's that are planned.
const BUDGETS: usize = 8;

/// What all plans of a page share.
pub(crate) struct Page<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) model: &'a Model,
    pub(crate) graph: GraphOptions,
    pub(crate) training: train::Options,
    pub(crate) title: String,
    pub(crate) bar: ProgressBar,
}

impl Page<'_> {
    /// The page around `plan`, self-contained.
    pub(crate) fn html(&self, plan: &Plan) -> Result<String> {
        let lengths: Vec<usize> = [1, 2, 4, 8, 16].map(|n| n * self.graph.seq.div_ceil(2)).into();
        self.bar.set_length((BUDGETS + 2 * lengths.len()) as u64);
        let (kept, smallest) = self.by_length(&lengths)?;
        let by_budget = self.by_budget(plan.peak_bytes())?;
        let title = &self.title;
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <style>body{{font:16px/1.5 sans-serif;max-width:64rem;margin:1rem auto;padding:0 \
             1rem;color:#222;background:#fff}}svg{{width:100%;height:auto}}td,th{{padding:.2rem \
             .8rem .2rem 0;text-align:left}}td:first-child{{text-align:right}}</style>\n\
             <h1>{title}</h1>\n<p>A step holds at most <strong>{}</strong>, of which {} are \
             activations, gradients and scratch; in this order of nodes it could not be below {}. \
             {} nodes run twice to save memory, which takes about {:.1} % of a step.</p>\n",
            human(plan.peak_bytes()),
            human(plan.arena_bytes()),
            human(plan.lower_bound_bytes()),
            plan.recomputed(),
            plan.slowdown() * 100.0,
        );
        let _ = write!(
            out,
            "<h2>Memory over a step</h2>\n{}\n<p>Boxes are buffers, the dark line what is alive, the \
             red one the bound; a dashed box is made again.</p>\n<h2>Time against \
             memory</h2>\n{}<h2>Longer sequences</h2>\n{}<h2>Largest at the \
             peak</h2>\n<table>\n<tr><th>bytes<th>what<th>steps\n",
            plan.svg(title),
            Chart {
                title: "time that budgets cost",
                x: "planned peak, MiB",
                y: "longer steps, %",
                lines: &[("estimated", by_budget)],
            }
            .svg(),
            Chart {
                title: "peak by length of sequences",
                x: "tokens in a sequence",
                y: "planned peak, MiB",
                lines: &[("without a budget", kept), ("the smallest budget", smallest)],
            }
            .svg(),
        );
        for (bytes, label, [first, last]) in plan.largest(12) {
            let _ = writeln!(out, "<tr><td>{}<td>{label}<td>{first} to {last}", human(bytes));
        }
        out.push_str("</table>\n</html>\n");
        self.bar.finish_and_clear();
        Ok(out)
    }

    fn plan(&self, seq: usize, budget: Option<usize>) -> Result<Plan> {
        let built = self.model.graph(&GraphOptions { seq, ..self.graph.clone() })?;
        let training = train::Options { memory_budget: budget, ..self.training.clone() };
        let plan = Trainer::plan_only(built.graph, built.loss, &self.machine.backends, &training);
        self.bar.inc(1);
        Ok(plan?.1)
    }

    /// The smallest budget that can be met.
    fn smallest(&self, seq: usize) -> Result<usize> {
        match self.plan(seq, Some(1)) {
            Err(Error::Budget { needed, .. }) => Ok(needed),
            planned => Ok(planned?.peak_bytes()),
        }
    }

    /// Peaks without a budget, and the smallest budgets.
    fn by_length(&self, lengths: &[usize]) -> Result<(Points, Points)> {
        let (mut kept, mut smallest) = (Vec::new(), Vec::new());
        for &seq in lengths {
            kept.push((seq as f64, mebibytes(self.plan(seq, None)?.peak_bytes())));
            smallest.push((seq as f64, mebibytes(self.smallest(seq)?)));
        }
        Ok((kept, smallest))
    }

    /// The time that budgets from the smallest to `most` cost.
    fn by_budget(&self, most: usize) -> Result<Points> {
        let least = self.smallest(self.graph.seq)?;
        let step = most.saturating_sub(least) / BUDGETS;
        let mut points = Vec::new();
        for i in 0..=BUDGETS {
            let plan = self.plan(self.graph.seq, Some(least + i * step))?;
            points.push((mebibytes(plan.peak_bytes()), plan.slowdown() * 100.0));
        }
        Ok(points)
    }
}

type Points = Vec<(f64, f64)>;

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
