//! `tenon train`.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tenon_runtime::train::Trainer;
use tenon_runtime::{Error, Result};

use crate::measure::{human, rss_peak};
use crate::options::{Machine, Options};
use crate::say;
use crate::text::Text;

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
    #[arg(long, value_name = "N", requires = "save")]
    save_every: Option<u64>,
    /// Continue from a file that --save wrote.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
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
            check_writable(path)?;
        }
        let fingerprint = self.options.fingerprint(steps)?;
        let machine = self.options.machine()?;
        let model = self.options.load()?;
        let text = Text::open(&self.options, self.text.as_deref(), model.config.vocab)?;
        let mut trainer = self.trainer(&machine, &model, steps)?;
        drop(model);
        if let Some(path) = &self.resume {
            let position = trainer.resume(path)?;
            if position != fingerprint {
                return Err(Error::format(
                    path,
                    "was saved with other options; resume with the same model, LoRA, seq, batch, \
                     learning rate and seed",
                ));
            }
        }
        self.announce(&trainer, &text);
        let tally = self.train(&mut trainer, &text, steps, &fingerprint)?;
        if let Some(path) = &self.save {
            trainer.save(path, &fingerprint)?;
        }
        self.summarize(&tally, &trainer, &machine);
        Ok(())
    }

    fn trainer(
        &self,
        machine: &Machine,
        model: &tenon_runtime::models::Model,
        steps: u64,
    ) -> Result<Trainer> {
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
        fingerprint: &str,
    ) -> Result<Tally> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        // A second handler in one process cannot be set; the first one serves then.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        let bar = self.progress(trainer.updates(), steps);
        let mut tally = Tally::default();
        let micro = trainer.options().accumulation as u64;
        while trainer.updates() < steps && !interrupted.load(Ordering::Relaxed) {
            let start = Instant::now();
            let update = trainer.updates();
            let (mut loss, mut tokens) = (0.0, 0);
            for part in 0..micro {
                let batch = text.batch(update * micro + part);
                trainer.write("tokens", &batch.tokens)?;
                trainer.write("targets", &batch.targets)?;
                loss += trainer.step(&mut ())?.loss / micro as f32;
                tokens += batch.tokens.len() as u64;
            }
            if !loss.is_finite() {
                bar.abandon();
                return Err(Error::Usage(format!(
                    "the loss became {loss} at step {}; train with a lower --lr",
                    update + 1
                )));
            }
            tally.add(loss, tokens, start.elapsed().as_secs_f64());
            self.show(&bar, &tally, update + 1, loss, tokens, start);
            if let (Some(path), Some(every)) = (&self.save, self.save_every)
                && every > 0
                && (update + 1) % every == 0
            {
                trainer.save(path, fingerprint)?;
            }
        }
        bar.finish_and_clear();
        Ok(tally)
    }

    fn show(
        &self,
        bar: &ProgressBar,
        tally: &Tally,
        step: u64,
        loss: f32,
        tokens: u64,
        start: Instant,
    ) {
        if self.json {
            let rate = tokens as f64 / start.elapsed().as_secs_f64();
            say(&json!({"step": step, "loss": loss, "tokens_per_s": rate}).to_string());
        }
        bar.set_position(step);
        bar.set_message(format!("loss {loss:.4}  {:.0} tokens/s", tally.rate()));
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

/// Refuses, before hours of training, a path that could not be written after them.
fn check_writable(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::Usage(format!("--save {} is a folder; give a file", path.display())));
    }
    let mut probe = path.file_name().unwrap_or_default().to_os_string();
    probe.push(format!(".{}.probe", std::process::id()));
    let probe = path.with_file_name(probe);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|e| {
            Error::Usage(format!(
                "cannot save to {}: {e}; give --save a path in a folder that can be written",
                path.display()
            ))
        })
}
