//! `tenon train`.

use std::fs::{self, OpenOptions};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tenon_runtime::executor::{Observer, Profile};
use tenon_runtime::models::Model;
use tenon_runtime::train::{Report, Trainer};
use tenon_runtime::{Error, Result};

use crate::measure::{human, parse_count, rss_peak};
use crate::options::{Machine, Options};
use crate::position::Position;
use crate::text::Text;
use crate::{say, tell};

/// Train a model.
#[derive(Args, Debug)]
pub(crate) struct Train {
    #[command(flatten)]
    options: Options,
    /// The text to learn; without it, a text about timber joints that comes with Tenon.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Updates to make, those of a resumed run included.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Where to save what trains (and the optimizer's state), atomically, at the end.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Save after every so many updates too.
    #[arg(long, value_name = "N", requires = "save", value_parser = parse_count)]
    save_every: Option<NonZero<usize>>,
    /// Continue from a file that --save wrote.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Write when every node of the last step ran and for how long, for `chrome://tracing` or
    /// Perfetto.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print one JSON object a step, and a summary.
    #[arg(long)]
    json: bool,
}

/// What the summary is made of.
#[derive(Default)]
struct Tally {
    first: Option<f32>,
    last: f32,
    steps: u64,
    tokens: u64,
    seconds: f64,
}

impl Train {
    pub(crate) fn run(&self) -> Result<()> {
        let steps = self.steps.unwrap_or(if self.options.model.is_some() { 30 } else { 300 });
        if let Some(path) = &self.save {
            self.check_save(path)?;
        }
        let machine = self.options.machine()?;
        let model = self.options.load()?;
        let text = Text::open(&self.options, self.text.as_deref(), model.config.vocab)?;
        let position = Position::new(&self.options, steps, &model, &text)?;
        let mut trainer = self.trainer(&machine, &model, steps)?;
        drop(model);
        if let Some(path) = &self.resume {
            let resumed = trainer.resume(path)?;
            position.check(path, &resumed.note)?;
            if let Some(damage) = resumed.damaged {
                tell(&format!("{damage}; continuing from the save before it"));
            }
        }
        self.announce(&trainer, &text);
        let tally = self.train(&mut trainer, &text, steps, &position)?;
        if let Some(path) = &self.save {
            trainer.save(path, &position.note())?;
        }
        self.summarize(&tally, &trainer, &machine);
        Ok(())
    }

    /// Refuses to save where it cannot be done, or over what the run reads.
    fn check_save(&self, path: &Path) -> Result<()> {
        let same = |input: &Path| match (path.canonicalize(), input.canonicalize()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        let inputs = [("--model", &self.options.model), ("--text", &self.text)];
        for (option, input) in inputs {
            if input.as_deref().is_some_and(same) {
                return Err(Error::Usage(format!(
                    "--save would overwrite {option} {}; give another path",
                    path.display()
                )));
            }
        }
        check_writable(path)
    }

    fn trainer(&self, machine: &Machine, model: &Model, steps: u64) -> Result<Trainer> {
        let built = model.graph(&self.options.graph()?)?;
        let training = self.options.training(steps)?;
        let allocator = machine.backends[0].allocator();
        let parameters = model.parameters(&built.graph, self.options.seed, allocator)?;
        Trainer::new(built.graph, built.loss, &machine.backends, &parameters, training)
    }

    fn train(
        &self,
        trainer: &mut Trainer,
        text: &Text,
        steps: u64,
        position: &Position,
    ) -> Result<Tally> {
        let interrupted = interruption();
        let bar = self.progress(trainer.updates(), steps);
        let mut tally = Tally::default();
        while trainer.updates() < steps {
            if interrupted.load(Ordering::Relaxed) {
                tell(&format!("interrupted after {} of {steps} steps", trainer.updates()));
                break;
            }
            let start = Instant::now();
            let traced = self.trace.as_ref().filter(|_| trainer.updates() + 1 == steps);
            let (report, tokens) = match traced {
                None => update(trainer, text, &mut ())?,
                Some(path) => {
                    let mut profile = Profile::default();
                    let made = update(trainer, text, &mut profile)?;
                    fs::write(path, profile.chrome_trace()).map_err(|e| Error::io(path, e))?;
                    made
                }
            };
            if !report.loss.is_finite() {
                return Err(Error::Usage(format!(
                    "the loss became {} at step {}; train with a lower --lr",
                    report.loss, report.step
                )));
            }
            let seconds = start.elapsed().as_secs_f64();
            tally.add(report.loss, tokens, seconds);
            self.show(&bar, &tally, &report, tokens as f64 / seconds);
            if let (Some(path), Some(every)) = (&self.save, self.save_every)
                && report.step.is_multiple_of(every.get() as u64)
            {
                trainer.save(path, &position.note())?;
            }
        }
        bar.finish_and_clear();
        Ok(tally)
    }

    fn show(&self, bar: &ProgressBar, tally: &Tally, report: &Report, rate: f64) {
        let Report { step, loss, lr, .. } = *report;
        if self.json {
            let line = json!({"step": step, "loss": loss, "tokens_per_s": rate, "lr": lr});
            say(&line.to_string());
            return;
        }
        let message = format!("loss {loss:.4}  {:.0} tokens/s", tally.rate());
        // Where no bar can be drawn, some lines tell the same.
        let steps = bar.length().unwrap_or(step);
        if bar.is_hidden() && (tally.steps == 1 || step.is_multiple_of(steps.div_ceil(10))) {
            tell(&format!("step {step}/{steps}  {message}"));
        }
        bar.set_position(step);
        bar.set_message(message);
    }

    fn progress(&self, done: u64, steps: u64) -> ProgressBar {
        let target =
            if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        // The template is a literal; a bar without style still counts.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left") {
            bar.set_style(style);
        }
        bar.set_position(done);
        bar.reset_eta();
        bar
    }

    fn announce(&self, trainer: &Trainer, text: &Text) {
        if self.json {
            return;
        }
        let trained: usize = trainer
            .trainable()
            .iter()
            .filter_map(|name| trainer.executor().desc(name).ok())
            .map(tenon_runtime::TensorDesc::numel)
            .sum();
        say(&format!(
            "training {trained} weights on {} tokens; a step takes {} by plan, {} nodes",
            text.len(),
            human(trainer.plan().peak_bytes()),
            trainer.plan().nodes().len(),
        ));
    }

    fn summarize(&self, tally: &Tally, trainer: &Trainer, machine: &Machine) {
        let (planned, measured) = (trainer.plan().peak_bytes(), machine.memory.peak());
        let rss = rss_peak();
        if self.json {
            say(&json!({
                "summary": true,
                "steps": tally.steps,
                "first_loss": tally.first,
                "last_loss": tally.first.map(|_| tally.last),
                "tokens_per_s": tally.rate(),
                "planned_peak_bytes": planned,
                "measured_peak_bytes": measured,
                "rss_peak_bytes": rss,
            })
            .to_string());
            return;
        }
        let Some(first) = tally.first else {
            say("nothing to do: the run has made all its steps already");
            return;
        };
        say(&format!(
            "{} steps, loss {first:.4} -> {:.4}, {:.0} tokens/s",
            tally.steps,
            tally.last,
            tally.rate()
        ));
        say(&format!(
            "memory: planned {}, measured {}, resident peak {}",
            human(planned),
            human(measured),
            rss.map_or("unknown".to_owned(), human),
        ));
        if let Some(path) = &self.save {
            say(&format!("saved {}", path.display()));
        }
    }
}

impl Tally {
    fn add(&mut self, loss: f32, tokens: u64, seconds: f64) {
        self.first.get_or_insert(loss);
        self.last = loss;
        self.steps += 1;
        self.tokens += tokens;
        self.seconds += seconds;
    }

    fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 }
    }
}

/// One update: all its micro-steps. Gives its report, with the mean loss, and the tokens seen.
fn update(
    trainer: &mut Trainer,
    text: &Text,
    observer: &mut dyn Observer,
) -> Result<(Report, u64)> {
    let micro = trainer.options().accumulation as u64;
    let first = trainer.updates() * micro;
    let (mut loss, mut tokens) = (0.0, 0);
    loop {
        let batch = text.batch(first + trainer.micro_steps() as u64);
        trainer.write("tokens", &batch.tokens)?;
        trainer.write("targets", &batch.targets)?;
        let report = trainer.step(observer)?;
        loss += report.loss / micro as f32;
        tokens += batch.tokens.len() as u64;
        if trainer.micro_steps() == 0 {
            return Ok((Report { loss, ..report }, tokens));
        }
    }
}

/// Set by the first Ctrl-C, so that the step ends and the run is saved; the second one ends the
/// program at once.
fn interruption() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    // Without a handler Ctrl-C still ends the program; a run need not fail for it.
    let _ = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    interrupted
}

/// Refuses, before hours of training, a folder that could not be written after them. Marked
/// read-only is refused even where the user's rights (root's) would do.
fn check_writable(path: &Path) -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::Usage(format!(
            "cannot save to {}: {why}; give --save a path that can be written",
            path.display()
        )))
    };
    let read_only = |path: &Path| fs::metadata(path).is_ok_and(|m| m.permissions().readonly());
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return refuse("it is a folder");
    }
    if read_only(path) {
        return refuse("the file there is read-only");
    }
    if read_only(folder) {
        return refuse("its folder is read-only");
    }
    let mut probe = path.file_name().unwrap_or_default().to_os_string();
    probe.push(format!(".{}.probe", std::process::id()));
    let probe = folder.join(probe);
    let made = OpenOptions::new().write(true).create_new(true).open(&probe);
    made.and_then(|_| fs::remove_file(&probe)).or_else(|e| refuse(&e.to_string()))
}
