//! The `tenon` command line: train, plan, and look at devices and models.
//!
//! One file a subcommand. Results go to standard output, everything said to people to standard
//! error; `--json` makes the output one object a line.

mod info;
mod measure;
mod options;
mod plan;
mod text;
mod tokenizer;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Train models on this machine, exactly, in little memory.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
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
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Info(info) => info.run(),
        Command::Train(train) => train.run(),
        Command::Plan(plan) => plan.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error.
#[allow(clippy::print_stderr, reason = "a command line speaks")]
fn complain(message: &str) {
    eprintln!("error: {}", message.replace('\n', " "));
}

/// One line on standard output; a reader that went away ends the program quietly.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
