//! `tenon check`: does this device compute what it should?

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tenon_backends::cpu::{self, Cpu};
use tenon_kernels::Isa;
use tenon_runtime::backend::Backend;
use tenon_runtime::check::{self, Direction, Verdict};
use tenon_runtime::{Error, Result};

use crate::targets::{Target, Targets};
use crate::{say, tell};

/// Check every op on this device.
///
/// Forward results are compared with those of the CPU's portable level, gradients with finite
/// differences, both within the op's stated tolerance. It fails if one is wrong. This is the first
/// thing to run where losses look odd.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Only ops whose name contains this.
    #[arg(default_value = "")]
    filter: String,
    #[command(flatten)]
    targets: Targets,
    /// Print one JSON object for each op, type and device, and one with the sums.
    #[arg(long)]
    json: bool,
}

/// What came of an op's comparisons.
#[derive(Clone, Copy, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// The greatest error among those that came to a result, in units of what is allowed.
    worst: f64,
}

/// Tallies by op and type, one for each target.
type Table = BTreeMap<(&'static str, &'static str), Vec<Tally>>;

impl Check {
    pub(crate) fn run(&self) -> Result<()> {
        let targets = self.targets.list(Isa::available(), NonZero::new(1))?;
        let portable = cpu::Options {
            threads: NonZero::new(1),
            isa: Some(Isa::PORTABLE),
            ..cpu::Options::default()
        };
        let reference: Arc<dyn Backend> = Arc::new(Cpu::new(portable)?);
        let all = check::checks().chain(check::ends());
        let checks: Vec<_> = all.filter(|c| c.entry.name.contains(&self.filter)).collect();
        if checks.is_empty() {
            let why = format!("no op's name contains `{}`; `tenon info` lists them", self.filter);
            return Err(Error::Usage(why));
        }
        let start = Instant::now();
        let bar = if self.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
        bar.set_length((checks.len() * targets.len()) as u64);
        let (mut table, mut sum) = (Table::new(), Tally::default());
        for check in &checks {
            let row = table.entry((check.entry.name, check.case.dtype().name())).or_default();
            row.resize(targets.len(), Tally::default());
            for (target, tally) in targets.iter().zip(row) {
                let verdict = check.run(&target.backend, &reference);
                tally.count(&verdict);
                sum.count(&verdict);
                bar.inc(1);
                if let Some(wrong) = describe(check, target, &verdict) {
                    bar.suspend(|| tell(&wrong));
                }
            }
        }
        bar.finish_and_clear();
        if self.json {
            print_objects(&table, &targets);
            targets
                .iter()
                .filter_map(Target::ran)
                .for_each(|ran| say(&json!({ "ran": ran }).to_string()));
            let seconds = start.elapsed().as_secs_f64();
            let Tally { passed, failed, skipped, worst } = sum;
            say(&json!({
                "passed": passed, "failed": failed, "skipped": skipped, "worst": worst,
                "seconds": seconds,
            })
            .to_string());
        } else {
            print_table(&table, &targets);
            say(&format!(
                "\n{} right, {} wrong, {} not claimed, in {:.1} s",
                sum.passed,
                sum.failed,
                sum.skipped,
                start.elapsed().as_secs_f64()
            ));
        }
        if sum.failed > 0 {
            let why =
                format!("{} of {} comparisons are wrong", sum.failed, sum.failed + sum.passed);
            return Err(Error::Device { backend: "check", why });
        }
        Ok(())
    }
}

impl Tally {
    fn count(&mut self, verdict: &Verdict) {
        match *verdict {
            Verdict::Passed(excess) => {
                self.passed += 1;
                self.worst = self.worst.max(excess);
            }
            Verdict::Skipped => self.skipped += 1,
            Verdict::Wrong(excess) => {
                self.failed += 1;
                self.worst = self.worst.max(excess);
            }
            Verdict::Failed(_) => self.failed += 1,
        }
    }

    fn cell(self) -> String {
        match self {
            Self { passed: 0, failed: 0, .. } => "-".to_owned(),
            Self { failed: 0, passed, .. } => passed.to_string(),
            Self { failed, .. } => format!("{failed} WRONG"),
        }
    }
}

/// What is wrong, and how to see it again; `None` where nothing is.
fn describe(check: &check::Check, target: &Target, verdict: &Verdict) -> Option<String> {
    let what = match verdict {
        Verdict::Wrong(excess) => format!("{excess:.3} times the tolerance off"),
        Verdict::Failed(error) => error.to_string(),
        Verdict::Passed(_) | Verdict::Skipped => return None,
    };
    let direction = match check.direction {
        Direction::Forward => String::new(),
        Direction::Gradient(operand) => format!(", gradient toward operand {operand}"),
    };
    let name = target.name();
    let (label, seed) = (check.case.label(), check.seed);
    Some(format!("wrong on {name}: {label}{direction}, seed {seed}: {what}"))
}

fn print_objects(table: &Table, targets: &[Target]) {
    for ((op, dtype), tallies) in table {
        for (target, tally) in targets.iter().zip(tallies) {
            let Tally { passed, failed, skipped, worst } = tally;
            let (backend, level) = (target.device.backend, &target.device.level);
            say(&json!({
                "op": op, "dtype": dtype, "backend": backend, "level": level,
                "passed": passed, "failed": failed, "skipped": skipped, "worst": worst,
            })
            .to_string());
        }
    }
}

/// Ops and types by devices; a cell is the number of comparisons that are right.
fn print_table(table: &Table, targets: &[Target]) {
    let mut head = format!("{:30} {:6}", "op", "type");
    targets.iter().for_each(|target| head += &format!(" {:>12}", target.name()));
    say(&head);
    for ((op, dtype), tallies) in table {
        let mut line = format!("{op:30} {dtype:6}");
        tallies.iter().for_each(|tally| line += &format!(" {:>12}", tally.cell()));
        say(line.trim_end());
    }
}
