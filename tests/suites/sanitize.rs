//! The C programs with a library that sanitizers watch: no leak, no access outside of what was given,
//! no data race, and in the programs themselves no undefined behaviour. The runtimes are those that come
//! with Rust, so that compiler and library speak of the same.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::{Path, PathBuf};
use std::process::Command;

use tenon_tests::golden::{report, root};
use tenon_tests::programs::{Build, Kind, PROGRAMS, Program, Workshop, include, outcome, run};

const TARGET: &str = "x86_64-unknown-linux-gnu";

struct Sanitizer {
    /// Its short name: of the runtime, and of the folder under `target`.
    name: &'static str,
    /// What it is called for Rust.
    rust: &'static str,
    /// More options of Rust's.
    more: &'static str,
    /// Of cargo's. A standard library that is not watched would hide what orders threads; for memory
    /// the one that is there will do.
    cargo: &'static [&'static str],
    /// The programs to run; all where there are none.
    programs: &'static [&'static str],
    /// Of clang's.
    clang: &'static [&'static str],
    /// Its own options, in their variable.
    options: (&'static str, &'static str),
    /// What [`Kind::Wrong`] programs do that it must tell of, and what it says.
    wrongs: &'static [(&'static str, &'static str)],
}

const ADDRESS: Sanitizer = Sanitizer {
    name: "asan",
    rust: "address",
    // A call for each check: builds twice as fast, and the programs are short.
    more: "-Cllvm-args=-asan-instrumentation-with-call-threshold=0",
    cargo: &[],
    programs: &[],
    clang: &["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    // Programs ask for more memory than there is, to see that it is refused.
    options: ("ASAN_OPTIONS", "allocator_may_return_null=1:detect_stack_use_after_return=1"),
    wrongs: &[
        ("freed", "heap-use-after-free"),
        ("overflow", "heap-buffer-overflow"),
        ("leak", "detected memory leaks"),
    ],
};

const THREAD: Sanitizer = Sanitizer {
    name: "tsan",
    rust: "thread",
    // No level differs in its threads, and nothing here takes long but building.
    more: "--cfg tenon_portable",
    cargo: &["-Zbuild-std=std", "--config", "profile.release.opt-level=1"],
    programs: &["train_mlp", "callbacks", "callers", "staging", "threads", "wrong"],
    clang: &["-fsanitize=thread"],
    options: ("TSAN_OPTIONS", "allocator_may_return_null=1"),
    wrongs: &[("race", "data race")],
};

/// The folder of a library that is watched.
fn library(shop: &Workshop, sanitizer: &Sanitizer) -> PathBuf {
    let folder = shop.target().join(sanitizer.name);
    let folder_name = folder.to_string_lossy();
    // Without Vulkan: no program here asks for a device, and it takes longer to build than all else.
    let mut words = vec!["build", "--quiet", "--release", "--package", "tenon"];
    words.extend(["--no-default-features", "--target", TARGET, "--target-dir", &folder_name]);
    words.extend(sanitizer.cargo);
    let Sanitizer { rust, more, .. } = sanitizer;
    let flags = format!("-Zsanitizer={rust} -Cunsafe-allow-abi-mismatch=sanitizer {more}");
    // Sanitizers are no stable part of Rust; RUSTC_BOOTSTRAP opens them in the compiler that is there.
    // Line tables, so that a report tells lines.
    let lines = ("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
    shop.cargo(&words, &[("RUSTC_BOOTSTRAP", "1"), ("RUSTFLAGS", flags.trim_end()), lines]);
    folder.join(TARGET).join("release")
}

/// The runtime, whose name also tells the compiler's channel.
fn runtime(sanitizer: &Sanitizer) -> PathBuf {
    let root = run(Command::new("rustc").args(["--print", "sysroot"]));
    let folder = Path::new(root.trim()).join("lib/rustlib").join(TARGET).join("lib");
    let files = std::fs::read_dir(&folder).expect("Rust's libraries");
    let end = format!("_rt.{}.a", sanitizer.name);
    let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
    let found = paths.find(|path| path.to_string_lossy().ends_with(&end));
    found.unwrap_or_else(|| panic!("no *{end} in {}", folder.display()))
}

fn compile(shop: &Workshop, sanitizer: &Sanitizer, program: &Program, library: &Path) -> PathBuf {
    const BUILD: Build = Build { compiler: "clang", standard: "c99", language: "c", shared: false };
    let built = shop.scratch("bin").join(format!("{}-{}", program.name(), sanitizer.name));
    let mut command = BUILD.command(&include());
    command.args(["-g", "-O1"]).args(sanitizer.clang).arg("-fno-sanitize-link-runtime");
    command.arg(root().join(program.source)).args(["-x", "none", "-o"]).arg(&built);
    if program.kind != Kind::Loads {
        command.arg(library.join("libtenon.a"));
    }
    // All of it, and visible: a library that is loaded needs what no program calls.
    command.arg("-Wl,--whole-archive").arg(runtime(sanitizer)).arg("-Wl,--no-whole-archive");
    run(command.args(["-rdynamic", "-lpthread", "-ldl", "-lm", "-lrt"]));
    built
}

fn watch(sanitizer: &Sanitizer) {
    let shop = Workshop::new(env!("CARGO_TARGET_TMPDIR"), sanitizer.name);
    let library = library(&shop, sanitizer);
    let wanted = sanitizer.programs;
    for program in PROGRAMS {
        if !wanted.is_empty() && !wanted.contains(&program.name()) {
            continue;
        }
        let built = compile(&shop, sanitizer, program, &library);
        let variables = [sanitizer.options];
        match program.kind {
            Kind::Linked => {
                for out in shop.run(program, &built, &variables) {
                    program.judge(&out);
                }
            }
            Kind::Loads => {
                let mut command = Command::new(&built);
                command.arg(library.join("libtenon.so")).envs(variables);
                program.judge(&run(&mut command));
            }
            Kind::Wrong => {
                for (how, what) in sanitizer.wrongs {
                    let (fine, said) = outcome(Command::new(&built).arg(how).envs(variables));
                    assert!(!fine && said.contains(what), "{how} goes unseen:\n{said}");
                    report(&format!("{}: {how}: {what}", sanitizer.name));
                }
            }
        }
    }
}

#[test]
#[ignore = "by `tests/run sanitize`: it builds the library anew"]
fn memory_is_used_as_it_was_given() {
    watch(&ADDRESS);
}

#[test]
#[ignore = "by `tests/run sanitize`: it builds the library anew"]
fn threads_do_not_race() {
    watch(&THREAD);
}
