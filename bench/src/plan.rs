//! `tenon plan`.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tenon_runtime::memory::escape;
use tenon_runtime::train::Trainer;
use tenon_runtime::{Error, Result};

use crate::measure::human;
use crate::options::Options;
use crate::page::Page;
use crate::say;

/// Plan a step.
#[derive(Args, Debug)]
pub(crate) struct Plan {
    #[command(flatten)]
    options: Options,
    /// Write a picture of memory over the step.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write a page: that picture, the time that smaller budgets cost, peaks of longer sequences.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the graph of a step, after all passes, in Graphviz's language.
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    /// Write the same graph as text, a line a node.
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(crate) fn run(&self) -> Result<()> {
        let model = self.options.load()?;
        let machine = self.options.machine()?;
        let built = model.graph(&self.options.graph()?)?;
        let training = self.options.training(1)?;
        let (graph, plan) =
            Trainer::plan_only(built.graph, built.loss, &machine.backends, &training)?;
        let milliseconds = plan.duration().as_secs_f64() * 1e3;
        let name = self.options.model.as_ref().map_or("a small model".into(), |m| {
            m.file_name().unwrap_or_default().to_string_lossy().into_owned()
        });
        let title = format!("Memory of a training step of {name}");
        if let Some(path) = &self.svg {
            write(path, &plan.svg(&title))?;
        }
        if let Some(path) = &self.html {
            let bar = if self.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
            let (graph, model, machine) = (self.options.graph()?, &model, &machine);
            let training = training.clone();
            let page = Page { machine, model, graph, training, title: escape(&title), bar };
            write(path, &page.html(&plan)?)?;
        }
        if let Some(path) = &self.dot {
            write(path, &graph.graphviz())?;
        }
        if let Some(path) = &self.dump {
            write(path, &graph.dump())?;
        }
        if self.json {
            say(&json!({
                "nodes": plan.nodes().len(),
                "planned_peak_bytes": plan.peak_bytes(),
                "lower_bound_bytes": plan.lower_bound_bytes(),
                "arena_bytes": plan.arena_bytes(),
                "owned_bytes": plan.owned_bytes(),
                "spilled_bytes": plan.spilled_bytes(),
                "recomputed_nodes": plan.recomputed(),
                "slowdown": plan.slowdown(),
                "plan_ms": milliseconds,
            })
            .to_string());
        } else {
            say(&format!("nodes               {}", plan.nodes().len()));
            say(&format!(
                "planned_peak_bytes  {} ({})",
                plan.peak_bytes(),
                human(plan.peak_bytes())
            ));
            let bound = plan.lower_bound_bytes();
            say(&format!("lower_bound_bytes   {bound} ({})", human(bound)));
            say(&format!(
                "recomputed_nodes    {} (about {:.1} % of a step)",
                plan.recomputed(),
                plan.slowdown() * 100.0
            ));
            say(&format!("plan_ms             {milliseconds:.1}"));
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::io(path, e))
}
