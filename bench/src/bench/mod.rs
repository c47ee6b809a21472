//! `tenon bench`: how fast kernels and steps are on this device, and how near its roof.

mod compare;
mod kernels;
pub(crate) mod machine;
pub(crate) mod peaks;
mod report;
mod roofline;
mod row;
mod sample;
mod soak;
mod steps;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use tenon_kernels::Isa;
use tenon_runtime::ops::Case;
use tenon_runtime::{Error, Result};

use crate::measure::{human, parse_count};
use crate::targets::{Target, Targets};
use crate::{say, tell};
use peaks::Peaks;
use report::Report;
use row::{Ready, Row};
use sample::Samples;
use soak::Soak;
use steps::Step;

/// Time kernels and training steps on this device.
///
/// Rows come from the op table that production and tests use: sizes to time of every op, then whole
/// steps. A row's fraction is of the roof that was measured just before: multiply-adds in registers,
/// or memory at the size of its operands.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only rows that contain this, such as "matmul", "q4_1" or "step".
    #[arg(default_value = "")]
    filter: String,
    #[command(flatten)]
    targets: Targets,
    /// Threads to work with.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    threads: NonZero<usize>,
    /// Seconds for all rows together.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    time: f64,
    /// A GGUF file or Hugging Face folder whose training steps are timed, too.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// After that, repeat the first row for so many seconds, to see the device grow warm.
    #[arg(long, value_name = "SECONDS")]
    soak: Option<f64>,
    /// Print one JSON object a row.
    #[arg(long)]
    json: bool,
    /// Write a page with pictures and a table.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Rows of other libraries for that page, as `bench/peers/run --json` writes them.
    #[arg(long, value_name = "FILE", requires = "html")]
    with: Vec<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Say what became faster or slower between two runs, beyond noise.
    Compare(compare::Compare),
}

/// Something to time.
#[derive(Clone)]
enum Job<'a> {
    Kernel(Case),
    Step(Step<'a>),
}

/// A job, the target it is for with the roof over it, and what its row is of.
struct Task<'a> {
    job: Job<'a>,
    target: &'a Target,
    roof: Option<&'a Peaks>,
    row: Row,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        if let Some(Command::Compare(compare)) = &self.command {
            return compare.run();
        }
        for (name, seconds) in [("time", Some(self.time)), ("soak", self.soak)] {
            if seconds.is_some_and(|s| !(s > 0.0 && s < 1e6)) {
                return Err(Error::Usage(format!("--{name} takes seconds, more than 0")));
            }
        }
        let start = Instant::now();
        let best = Isa::from_env()
            .map_err(|e| Error::Device { backend: "cpu", why: format!("TENON_ISA: {e}") })?;
        let mut targets = self.targets.list(std::iter::once(best), Some(self.threads))?;
        // Others may be slow stand-ins on the same processor, and are timed where they are asked for.
        targets.retain(|target| target.isa.is_some() || self.targets.backend.is_some());
        if self.tasks(&targets, &[]).is_empty() {
            let why = format!("nothing to time has `{}` in its name", self.filter);
            return Err(Error::Usage(why));
        }
        let mut report = Report { machine: machine::facts(), ..Report::default() };
        report.machine["unix_seconds"] = machine::now().into();
        self.print("machine", &report.machine);
        for isa in targets.iter().filter_map(|target| target.isa) {
            let peaks = Peaks::measure(isa, self.threads.get())?;
            self.print("peaks", &peaks);
            report.peaks.push(peaks);
        }
        let roofs = report.peaks.clone();
        let tasks = self.tasks(&targets, &roofs);
        self.head(&report);
        self.time(&tasks, start, &mut report)?;
        if let Some(seconds) = self.soak
            && let Some(mut ready) = tasks[0].ready()?
        {
            let soak = Soak::run(&tasks[0].row, &mut ready, seconds)?;
            self.print_soak(&soak);
            report.soak = Some(soak);
        }
        self.sum_up(&report, start);
        targets.iter().filter_map(Target::ran).for_each(|ran| self.print("ran", &ran));
        for path in &self.with {
            report.peers.extend(compare::read(path)?);
        }
        match &self.html {
            Some(path) => write(path, &report.html()),
            None => Ok(()),
        }
    }

    /// What there is to time, in the table's order, whole steps last.
    fn tasks<'a>(&'a self, targets: &'a [Target], roofs: &'a [Peaks]) -> Vec<Task<'a>> {
        let steps = steps::steps(self.model.as_deref()).into_iter().map(Job::Step);
        let jobs = kernels::cases().map(Job::Kernel).chain(steps);
        let tasks = jobs.flat_map(|job| {
            targets.iter().map(move |target| {
                let job = job.clone().on(target);
                let row = Row { threads: self.threads.get(), ..job.named() };
                let roof = roofs
                    .iter()
                    .find(|peaks| target.isa.is_some_and(|isa| peaks.isa == isa.name()));
                Task { job, target, roof, row: row.on(&target.device) }
            })
        });
        tasks.filter(|task| task.row.key().contains(&self.filter)).collect()
    }

    /// Times all tasks within the time there is, in rounds.
    fn time(&self, tasks: &[Task<'_>], start: Instant, report: &mut Report) -> Result<()> {
        /// Most visits to a row.
        const ROUNDS: usize = 5;
        /// Seconds of a row that are worth dividing.
        const WORTH: f64 = 0.1;
        let bar = if self.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} round {prefix} {msg} {eta}") {
            bar.set_style(style);
        }
        // The last rows are the longest: a little is kept for them.
        let limit = 0.8 * self.time;
        let rounds = if limit > WORTH * tasks.len() as f64 { ROUNDS } else { 1 };
        let mut samples: Vec<_> = tasks.iter().map(|_| Samples::default()).collect();
        let mut before = 0.0;
        for round in 1..=rounds {
            let (began, left) = (Instant::now(), limit - start.elapsed().as_secs_f64());
            let is_last = round == rounds || left < 2.0 * before;
            let seconds = if is_last { left } else { limit / rounds as f64 };
            bar.reset();
            bar.set_length(tasks.len() as u64);
            bar.set_prefix(round.to_string());
            // Seconds that went into making operands and the like.
            let mut besides = 0.0;
            for (done, task) in tasks.iter().enumerate() {
                bar.set_message(task.row.kernel.clone());
                let visit = Instant::now();
                let left = seconds - began.elapsed().as_secs_f64();
                let share = left / (tasks.len() - done) as f64 - besides / done.max(1) as f64;
                let share = share.max(0.0);
                if let Some(mut ready) = task.ready()? {
                    samples[done].visit(Duration::from_secs_f64(share), &mut ready.run)?;
                    if is_last {
                        let sample = std::mem::take(&mut samples[done]).sample();
                        let row = task.row.clone().timed(&sample, &ready, task.roof);
                        let picture = ready.picture.take();
                        report.memory.extend(picture.map(|picture| (row.key(), picture)));
                        bar.suspend(|| self.print_row(&row));
                        report.rows.push(row);
                    }
                }
                besides += (visit.elapsed().as_secs_f64() - share).max(0.0);
                bar.inc(1);
            }
            if is_last {
                break;
            }
            before = began.elapsed().as_secs_f64();
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn print<T: Serialize>(&self, name: &str, value: &T) {
        if self.json {
            say(&json!({ name: value }).to_string());
        }
    }

    fn print_soak(&self, soak: &Soak) {
        self.print("soak", soak);
        if !self.json {
            say(&soak.to_string());
        }
    }

    /// What stands above the rows.
    fn head(&self, report: &Report) {
        if self.json {
            return;
        }
        for peaks in &report.peaks {
            let Peaks { isa, threads, .. } = peaks;
            say(&format!("{isa}, threads: {threads}; at most {peaks}"));
        }
        say(&format!(
            "{:22} {:34} {:6} {:>10} {:>6} {:>9} {:>7} {:>7}",
            "kernel", "shape", "type", "median", "spread", "GFLOP/s", "GB/s", "of roof"
        ));
    }

    fn print_row(&self, row: &Row) {
        if self.json {
            let value = serde_json::to_string(row).unwrap_or_default();
            say(&value);
            return;
        }
        let name = |text: &str, width| text.chars().take(width).collect::<String>();
        let of_roof = match (row.fraction_of_peak, row.per_second) {
            (Some(fraction), _) => format!("{:5.0} %", 100.0 * fraction),
            (None, Some(rate)) => format!("{rate:.0}/s"),
            (None, None) => String::new(),
        };
        say(&format!(
            "{:22} {:34} {:6} {:>10} {:>4.0} % {:>9.1} {:>7.1} {:>7}{}",
            name(&row.kernel, 22),
            name(&row.shape, 34),
            row.dtype,
            time(row.median_s),
            100.0 * row.spread,
            row.gflops,
            row.gbps,
            of_roof,
            if row.disturbed.is_some() { "  disturbed" } else { "" }
        ));
    }

    /// What stands below the rows.
    fn sum_up(&self, report: &Report, start: Instant) {
        let disturbed: Vec<_> =
            report.rows.iter().filter_map(|row| row.disturbed.as_deref()).collect();
        if let Some(first) = disturbed.first() {
            tell(&format!(
                "{} of {} rows were disturbed ({first}): close other programs and run it again",
                disturbed.len(),
                report.rows.len()
            ));
        }
        if !self.json {
            let largest = report.rows.iter().map(|row| row.allocated_bytes).max().unwrap_or(0);
            let seconds = start.elapsed().as_secs_f64();
            say(&format!(
                "{} rows in {seconds:.1} s; the largest took {}",
                report.rows.len(),
                human(largest)
            ));
        }
    }
}

impl Job<'_> {
    /// It, at the size to time there.
    fn on(self, target: &Target) -> Self {
        match self {
            Self::Kernel(case) => Self::Kernel(kernels::sized(case, target)),
            step => step,
        }
    }

    /// What its row is of, whatever the target.
    fn named(&self) -> Row {
        match self {
            Self::Kernel(case) => kernels::named(case),
            Self::Step(step) => step.named(),
        }
    }
}

impl Task<'_> {
    /// It, ready to run; `None` where the target does not claim it.
    fn ready(&self) -> Result<Option<Ready>> {
        match &self.job {
            Job::Kernel(case) => kernels::ready(case, self.target),
            Job::Step(step) => step.ready(self.target).map(Some),
        }
    }
}

/// A time as people read it.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.2} us", s * 1e6),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)
        .map_err(|error| Error::Usage(format!("cannot write {}: {error}", path.display())))
}
