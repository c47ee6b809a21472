//! The `tenon` command line: train, plan, check and look at devices and models.
//!
//! One file a subcommand. Results go to standard output, everything said to people to standard
//! error; `--json` makes the output one object a line.

mod bench;
mod chart;
mod check;
mod info;
mod measure;
mod options;
mod page;
mod plan;
mod position;
mod targets;
mod text;
mod tokenizer;
mod train;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Train models on this machine, exactly, in little memory.
#[derive(Parser)]
#[command(name = "tenon", version, about, max_term_width = 100, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show devices, instruction sets, formats and ops, or what a model file holds.
    Info(info::Info),
    /// Train: a small model on embedded text, or a model of yours on your text.
    Train(train::Train),
    /// Say what a training step would take, before taking it.
    Plan(plan::Plan),
    /// Check every op on this device, forward and backward.
    Check(check::Check),
    /// Time kernels and training steps on this device.
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let result = match cli.command {
        Command::Info(info) => info.run(),
        Command::Train(train) => train.run(),
        Command::Plan(plan) => plan.run(),
        Command::Check(check) => check.run(),
        Command::Bench(bench) => bench.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Shows the help that was asked for, or says in one line what is wrong with the arguments.
fn misused(error: &clap::Error) -> ExitCode {
    let help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if help || !error.use_stderr() {
        // Nobody to read the help is no failure.
        let _ = error.print();
        return if help { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let text = error.to_string();
    let what = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let what: Vec<&str> = what.split_whitespace().collect();
    complain(&format!("{}; see `tenon help`", what.join(" ")));
    ExitCode::FAILURE
}

/// What went wrong, in one line on standard error.
fn complain(message: &str) {
    tell(&format!("error: {}", message.replace('\n', " ")));
}

/// One line on standard error.
fn tell(line: &str) {
    use std::io::Write;
    // A reader that went away is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One line on standard output; a reader that went away ends the program quietly.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
