//! The C programs: which there are, what they are called with and must print, and how they are built.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::golden::{report, root, smollm2};
use crate::models::{lay_out, lay_out_gguf};

/// What a program is to the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is linked with the library, shared or static.
    Linked,
    /// It loads the shared library by itself, which its first argument names.
    Loads,
    /// It breaks a rule of the header: for sanitizers, which must tell.
    Wrong,
}

/// A C program.
#[derive(Clone, Copy)]
pub struct Program {
    /// Its file.
    pub source: &'static str,
    /// Which it is.
    pub kind: Kind,
    /// Arguments of each of its runs.
    pub runs: fn(&Workshop) -> Vec<Vec<PathBuf>>,
    /// Checks what a run printed.
    pub check: fn(&str),
}

/// Every C program of the examples and tests.
pub const PROGRAMS: &[Program] = &[
    linked("ffi/examples/train_mlp.c", no_arguments, |out| {
        let losses = losses(out);
        assert!(losses.len() > 5 && losses[losses.len() - 1] < 0.2 * losses[0], "{out}");
        assert!(number_before(out, " of 64 right") >= 58, "{out}");
    }),
    linked("ffi/examples/finetune_lora.c", three_steps, |out| {
        let losses = losses(out);
        // The judge's loss of this text, before anything is trained.
        assert!((losses[0] - 2.2214).abs() < 1e-3, "{out}");
        assert!(losses.len() == 3 && losses.is_sorted_by(|a, b| a > b), "{out}");
        assert!(
            out.contains("planned peak") && out.contains("loaded (\"the first text\")"),
            "{out}"
        );
    }),
    linked("ffi/examples/split_lora.c", three_steps, |out| {
        let losses = losses(out);
        assert!(losses.len() == 3 && losses.is_sorted_by(|a, b| a > b), "{out}");
        // 576 numbers of 2 bytes for each of 64 tokens.
        assert_eq!(number_before(out, " bytes each way"), 576 * 64 * 2, "{out}");
    }),
    linked("tests/c/hostile.c", no_arguments, |out| all_hold(out, 2000)),
    linked("tests/c/hostile_methods.c", no_arguments, |out| all_hold(out, 100)),
    linked("tests/c/hostile_exchange.c", no_arguments, |out| all_hold(out, 2000)),
    linked(
        "tests/c/hostile_files.c",
        |shop| vec![vec![shop.scratch("files"), tiny(shop), smollm2()]],
        |out| all_hold(out, 1000),
    ),
    linked("tests/c/allocator.c", no_arguments, |out| all_hold(out, 34)),
    linked(
        "tests/c/failures.c",
        |shop| {
            // It writes beside the model.
            let (folder, model) = (shop.scratch("failures"), shop.scratch("model whole"));
            let gguf = folder.join("llama.gguf");
            if !gguf.exists() {
                let _ = lay_out("llama", &model);
                lay_out_gguf("llama", &gguf);
            }
            vec![vec![folder, model, gguf]]
        },
        |out| all_hold(out, 270),
    ),
    linked("tests/c/callbacks.c", no_arguments, |out| all_hold(out, 40)),
    linked("tests/c/staging.c", no_arguments, |out| all_hold(out, 400)),
    linked("tests/c/dlpack.c", no_arguments, |out| all_hold(out, 200)),
    linked("tests/c/versions.c", no_arguments, |out| all_hold(out, 200)),
    linked("tests/c/callers.c", no_arguments, |out| all_hold(out, 20)),
    linked(
        "tests/c/parts.c",
        // The model, tokens, the layer that the second part begins with, and steps.
        |shop| {
            vec![
                vec![tiny(shop), "24".into(), "1".into(), "5".into()],
                vec![smollm2(), "32".into(), "14".into(), "2".into()],
            ]
        },
        |out| all_hold(out, 7),
    ),
    linked(
        "tests/c/threads.c",
        |shop| vec![vec![tiny(shop)]],
        |out| assert!(out.contains("the same in 8 threads"), "{out}"),
    ),
    Program {
        source: "tests/c/dlopen.c",
        kind: Kind::Loads,
        runs: no_arguments,
        check: |out| assert!(number_before(out, " times") > 50, "{out}"),
    },
    Program {
        source: "tests/c/wrong.c",
        kind: Kind::Wrong,
        runs: |_| ["race", "freed", "overflow", "leak"].map(|how| vec![how.into()]).to_vec(),
        check: |_| {},
    },
];

const fn linked(
    source: &'static str,
    runs: fn(&Workshop) -> Vec<Vec<PathBuf>>,
    check: fn(&str),
) -> Program {
    Program { source, kind: Kind::Linked, runs, check }
}

fn no_arguments(_: &Workshop) -> Vec<Vec<PathBuf>> {
    vec![Vec::new()]
}

fn three_steps(_: &Workshop) -> Vec<Vec<PathBuf>> {
    vec![vec![smollm2(), "3".into()]]
}

/// A tiny model's folder.
fn tiny(shop: &Workshop) -> PathBuf {
    let folder = shop.scratch("model");
    // Programs that read it may be running.
    if !folder.join("model.safetensors").exists() {
        let _ = lay_out("llama", &folder);
    }
    folder
}

/// The number that stands right before `word`.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap_or_default();
    let number = before.split_whitespace().next_back().and_then(|n| n.parse().ok());
    number.unwrap_or_else(|| panic!("no number before `{word}` in:\n{text}"))
}

/// The losses of the lines that tell one.
fn losses(text: &str) -> Vec<f64> {
    let tell = text.split("loss ").skip(1).map(|rest| rest.split_whitespace().next());
    tell.filter_map(|loss| loss?.parse().ok()).collect()
}

/// More than so many checks, of which none failed.
fn all_hold(out: &str, least: u64) {
    assert!(number_before(out, " checks, 0 failures") > least, "{out}");
}

impl Program {
    /// Its file's name without an ending.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let file = self.source.rsplit('/').next().unwrap_or_default();
        file.trim_end_matches(".c")
    }

    /// The program of a name.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        let found = PROGRAMS.iter().find(|program| program.name() == name);
        found.unwrap_or_else(|| panic!("there is no program `{name}`"))
    }

    /// Checks what a run printed, and reports its last line.
    pub fn judge(&self, out: &str) {
        (self.check)(out);
        report(&format!("{}: {}", self.name(), out.lines().next_back().unwrap_or_default()));
    }
}

/// A suite's own folder under `target`, where it builds and runs programs.
pub struct Workshop {
    folder: PathBuf,
}

impl Workshop {
    /// The suite's folder, in that which Cargo gives integration tests.
    #[must_use]
    pub fn new(cargo_target_tmpdir: &str, suite: &str) -> Self {
        Self { folder: Path::new(cargo_target_tmpdir).join(suite) }
    }

    /// A folder in it.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).expect("a folder under target");
        folder
    }

    /// Cargo's target folder.
    #[must_use]
    pub fn target(&self) -> &Path {
        // target/tmp/SUITE
        self.folder.ancestors().nth(2).unwrap_or(&self.folder)
    }

    /// Runs cargo in the repository, and waits for it.
    ///
    /// # Panics
    /// Where it fails.
    pub fn cargo(&self, arguments: &[&str], variables: &[(&str, &str)]) {
        let mut cargo = Command::new(std::env::var("CARGO").as_deref().unwrap_or("cargo"));
        cargo.args(arguments).envs(variables.iter().copied());
        run(cargo.current_dir(root()));
    }

    /// Runs a built program with the arguments of each of its runs, in a folder of that build's own;
    /// gives what each printed.
    pub fn run(&self, program: &Program, built: &Path, variables: &[(&str, &str)]) -> Vec<String> {
        let name = built.file_name().unwrap_or_default().to_string_lossy();
        let folder = self.scratch(&format!("run-{name}"));
        let runs = (program.runs)(self).into_iter();
        runs.map(|arguments| {
            let mut command = Command::new(built);
            command.args(arguments).envs(variables.iter().copied());
            run(command.current_dir(&folder))
        })
        .collect()
    }
}

/// What a command printed; it must succeed.
///
/// # Panics
/// Where it does not.
pub fn run(command: &mut Command) -> String {
    let (success, out) = outcome(command);
    assert!(success, "{command:?} failed:\n{out}");
    out
}

/// Whether a command succeeds; with what it printed, on its error stream too where it failed.
///
/// # Panics
/// Where it cannot be started.
pub fn outcome(command: &mut Command) -> (bool, String) {
    // Cargo's has folders in which an older libtenon may lie, and comes before what programs name.
    command.env_remove("LD_LIBRARY_PATH");
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        out += &String::from_utf8_lossy(&output.stderr);
        out += &format!("{}\n", output.status);
    }
    (output.status.success(), out)
}

/// A compiler's way to a program.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Its command.
    pub compiler: &'static str,
    /// The language's version.
    pub standard: &'static str,
    /// The language.
    pub language: &'static str,
    /// With the shared library.
    pub shared: bool,
}

impl Build {
    /// The command so far: the language, all warnings as errors, and the folder of the header.
    pub fn command(&self, include: &Path) -> Command {
        let mut command = Command::new(self.compiler);
        command.arg(format!("-std={}", self.standard)).args(["-x", self.language]);
        command.args(["-pedantic", "-Wall", "-Wextra", "-Werror", "-I"]).arg(include);
        command
    }
}

/// The folder of the header.
#[must_use]
pub fn include() -> PathBuf {
    root().join("ffi/include")
}
