//! The library as C and C++ programs meet it: what it exports, that the examples run, and that no
//! bad input gets through. Programs are built as C99, C11 and C++17, by gcc and by clang, without a
//! warning, against the shared and the static library.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tenon_tests::golden::{report, root, smollm2};
use tenon_tests::models::{lay_out, lay_out_gguf};

/// Most bytes of the stripped library: it goes into every app that uses it.
const MOST_BYTES: u64 = 4_000_000;

/// Languages: a name, the option that chooses it, and what it is for gcc and clang.
const LANGUAGES: [(&str, &str, [&str; 2]); 3] = [
    ("c99", "c", ["gcc", "clang"]),
    ("c11", "c", ["gcc", "clang"]),
    ("c++17", "c++", ["g++", "clang++"]),
];

/// The builds that programs are run in: each language, compiler and kind of library once or more.
/// The other pairs of them differ in nothing that a running program could tell.
const RUN: [(&str, &str, bool); 4] = [
    ("c99", "gcc", true),
    ("c++17", "clang++", true),
    ("c11", "clang", false),
    ("c++17", "g++", false),
];

/// A compiler's way to a program.
#[derive(Clone, Copy)]
struct Build {
    compiler: &'static str,
    standard: &'static str,
    language: &'static str,
    shared: bool,
}

/// All builds whose compiler is here; gcc's must be.
fn builds() -> impl Iterator<Item = Build> {
    let all = LANGUAGES.iter().flat_map(|&(standard, language, compilers)| {
        let both = compilers.into_iter().flat_map(|compiler| [(compiler, true), (compiler, false)]);
        both.map(move |(compiler, shared)| Build { compiler, standard, language, shared })
    });
    all.filter(|build| {
        let there = Command::new(build.compiler).arg("--version").output().is_ok();
        assert!(there || build.compiler.starts_with('c'), "{} is missing", build.compiler);
        there
    })
}

/// The builds that programs are run in.
fn run_builds() -> impl Iterator<Item = Build> {
    builds().filter(|b| RUN.contains(&(b.standard, b.compiler, b.shared)))
}

/// A folder of this suite's own, outside the sources.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c_programs").join(name);
    std::fs::create_dir_all(&folder).expect("a folder under target");
    folder
}

/// What a command printed; it must succeed.
fn run(command: &mut Command) -> String {
    // Cargo's has folders in which an older libtenon may lie, and comes before what programs name.
    let output = command
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

/// The folder of the libraries as they are shipped, which are built first: `cargo test` builds only
/// what the tests link, and they link neither.
fn libraries() -> &'static Path {
    static LIBRARIES: OnceLock<PathBuf> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp has one");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--profile", "dist", "--package", "tenon", "--target-dir"]);
        run(cargo.arg(target).current_dir(root()));
        target.join("dist")
    })
}

/// A program built from a C file.
fn compile(source: &str, build: Build, linked: bool) -> PathBuf {
    let source = root().join(source);
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let kind = if build.shared { "shared" } else { "static" };
    let program =
        scratch("bin").join(format!("{stem}-{}-{}-{kind}", build.compiler, build.standard));
    let mut command = Command::new(build.compiler);
    command.arg(format!("-std={}", build.standard)).args(["-x", build.language]);
    command.args(["-O2", "-pedantic", "-Wall", "-Wextra", "-Werror", "-I"]);
    command.arg(root().join("ffi/include")).arg(&source).arg("-o").arg(&program);
    // The language is that of the sources, not of the library.
    command.args(["-x", "none"]);
    if linked && build.shared {
        let folder = libraries().display();
        command.args([format!("-L{folder}"), "-ltenon".to_owned(), format!("-Wl,-rpath,{folder}")]);
    } else if linked {
        command.arg(libraries().join("libtenon.a"));
    }
    run(command.args(["-lpthread", "-ldl", "-lm"]));
    program
}

/// Runs a program's builds, each in a folder of its own; gives what they printed, which must be the
/// same.
fn run_all(source: &str, arguments: &[&Path]) -> String {
    let mut printed = Vec::new();
    for build in run_builds() {
        let program = compile(source, build, true);
        let folder = scratch(&format!("run-{}", program.file_name().unwrap_or_default().display()));
        let out = run(Command::new(&program).args(arguments).current_dir(folder));
        printed.push((program, out));
    }
    let (_, first) = &printed[0];
    for (program, out) in &printed {
        assert_eq!(out, first, "{} prints something else", program.display());
    }
    first.clone()
}

/// The number that stands right before `word`.
fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap_or_default();
    let number = before.split_whitespace().next_back().and_then(|n| n.parse().ok());
    number.unwrap_or_else(|| panic!("no number before `{word}` in:\n{text}"))
}

/// The losses of the lines that tell one.
fn losses(text: &str) -> Vec<f64> {
    let tell = text.split("loss ").skip(1).map(|rest| rest.split_whitespace().next());
    tell.filter_map(|loss| loss?.parse().ok()).collect()
}

/// The header by itself, and every program that includes it.
#[test]
fn every_compiler_takes_the_header() {
    let header = scratch("bin").join("header.c");
    std::fs::write(
        &header,
        "#include <tenon.h>\n#include <tenon.h>\nint main(void) { return 0; }\n",
    )
    .expect("a source can be written");
    for build in builds() {
        compile(&header.to_string_lossy(), build, true);
        compile("ffi/examples/train_mlp.c", build, true);
        compile("tests/c/versions.c", build, true);
    }
    report(&format!("header: {} builds without a warning", builds().count()));
}

#[test]
fn train_mlp_learns() {
    let out = run_all("ffi/examples/train_mlp.c", &[]);
    let losses = losses(&out);
    report(&format!("train_mlp: {losses:?}"));
    assert!(losses.len() > 5 && losses[losses.len() - 1] < 0.2 * losses[0], "{out}");
    assert!(number_before(&out, " of 64 right") >= 58, "{out}");
}

#[test]
fn finetune_lora_learns() {
    let out = run_all("ffi/examples/finetune_lora.c", &[&smollm2(), Path::new("3")]);
    let losses = losses(&out);
    report(&format!("finetune_lora: {losses:?}"));
    // The judge's loss of this text, before anything is trained.
    assert!((losses[0] - 2.2214).abs() < 1e-3, "{out}");
    assert!(losses.len() == 3 && losses.is_sorted_by(|a, b| a > b), "{out}");
    assert!(out.contains("planned peak") && out.contains("loaded (\"the first text\")"), "{out}");
}

#[test]
fn two_processes_train_halves_of_a_model() {
    let out = run_all("ffi/examples/split_lora.c", &[&smollm2(), Path::new("3")]);
    let losses = losses(&out);
    report(&format!("split_lora: {losses:?}"));
    assert!(losses.len() == 3 && losses.is_sorted_by(|a, b| a > b), "{out}");
    // 576 numbers of 2 bytes for each of 64 tokens.
    assert_eq!(number_before(&out, " bytes each way"), 576 * 64 * 2, "{out}");
}

#[test]
fn bad_calls_are_refused() {
    let out = run_all("tests/c/hostile.c", &[]);
    report(&format!("hostile: {}", out.trim()));
    assert!(number_before(&out, " checks, 0 failures") > 2000, "{out}");
}

#[test]
fn bad_calls_of_training_methods_are_refused() {
    let out = run_all("tests/c/hostile_methods.c", &[]);
    report(&format!("hostile_methods: {}", out.trim()));
    assert!(number_before(&out, " checks, 0 failures") > 100, "{out}");
}

#[test]
fn exchange_adds_up_and_refuses_bad_calls() {
    let out = run_all("tests/c/hostile_exchange.c", &[]);
    report(&format!("hostile_exchange: {}", out.trim()));
    assert!(number_before(&out, " checks, 0 failures") > 2000, "{out}");
}

#[test]
fn parts_of_a_model_train_as_the_whole_does() {
    let folder = scratch("parts");
    let _ = lay_out("llama", &folder);
    let (tiny, real) = (folder.as_path(), smollm2());
    // The model, tokens, the layer that the second part begins with, and steps.
    for arguments in [
        [tiny, "24".as_ref(), "1".as_ref(), "5".as_ref()],
        [real.as_path(), "32".as_ref(), "14".as_ref(), "2".as_ref()],
    ] {
        let out = run_all("tests/c/parts.c", &arguments);
        let last = out.lines().find(|line| line.contains("the whole's")).unwrap_or_default();
        report(&format!("parts in C: {last}"));
        assert!(number_before(&out, " checks, 0 failures") >= 8, "{out}");
    }
}

#[test]
fn bad_files_are_refused() {
    let (folder, model_folder) = (scratch("files"), scratch("model"));
    let _ = lay_out("llama", &model_folder);
    let out = run_all("tests/c/hostile_files.c", &[&folder, &model_folder, &smollm2()]);
    report(&format!("hostile_files: {}", out.trim()));
    assert!(number_before(&out, " checks, 0 failures") > 1000, "{out}");
}

#[test]
fn a_failing_allocator_is_an_error() {
    let out = run_all("tests/c/allocator.c", &[]);
    report(&format!("allocator: {}", out.trim().replace('\n', ", ")));
    assert!(number_before(&out, " checks, 0 failures") > 100, "{out}");
}

#[test]
fn any_request_for_memory_may_be_refused() {
    let (folder, model) = (scratch("failures"), scratch("model whole"));
    let gguf = folder.join("llama.gguf");
    let _ = lay_out("llama", &model);
    lay_out_gguf("llama", &gguf);
    let out = run_all("tests/c/failures.c", &[&folder, &model, &gguf]);
    report(&format!("failures: {}", out.trim().replace('\n', ", ")));
    assert!(number_before(&out, " checks, 0 failures") > 1000, "{out}");
}

#[test]
fn callbacks_may_call_back() {
    let out = run_all("tests/c/callbacks.c", &[]);
    report(&format!("callbacks: {}", out.trim()));
    assert!(number_before(&out, " checks, 0 failures") > 40, "{out}");
}

#[test]
fn memory_is_shared_both_ways() {
    let out = run_all("tests/c/dlpack.c", &[]);
    report(&format!("dlpack: {}", out.trim()));
    assert!(number_before(&out, " checks, 0 failures") > 200, "{out}");
}

#[test]
fn callers_of_other_versions_are_served() {
    let out = run_all("tests/c/versions.c", &[]);
    report(&format!("versions: {}", out.trim()));
    assert!(number_before(&out, " checks, 0 failures") > 200, "{out}");
}

#[test]
fn it_loads_and_unloads_twice() {
    for build in run_builds().filter(|build| build.shared) {
        let program = compile("tests/c/dlopen.c", build, false);
        let out = run(Command::new(program).arg(libraries().join("libtenon.so")));
        assert_eq!(out.matches("unloaded").count(), 2, "{out}");
    }
}

/// The functions that the header declares, as bindgen read them.
fn declared() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("ffi/src/abi.rs")).expect("it is checked in");
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("pub fn "));
    names.filter_map(|rest| Some(rest.split('(').next()?.to_owned())).collect()
}

#[test]
fn exports_are_the_headers_functions() {
    let library = libraries().join("libtenon.so");
    let out = run(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    let mut exported = BTreeSet::new();
    for line in out.lines() {
        let [_, kind, name] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        assert_eq!(kind, "T", "`{name}` is exported, but is no function");
        exported.insert(name.to_owned());
    }
    report(&format!("symbols: {} functions exported", exported.len()));
    assert_eq!(exported, declared());
}

#[test]
fn the_library_is_small_and_stands_alone() {
    const SYSTEM: &[&str] = &["libc.so", "libm.so", "libgcc_s.so", "ld-linux", "libdl.so"];
    let stripped = scratch("bin").join("libtenon.so");
    let whole = libraries().join("libtenon.so");
    run(Command::new("strip").arg("-o").arg(&stripped).arg(&whole));
    let bytes = std::fs::metadata(&stripped).expect("a stripped copy").len();
    report(&format!("symbols: {bytes} bytes when stripped"));
    assert!(bytes < MOST_BYTES, "{bytes} bytes");
    let out = run(Command::new("readelf").arg("--dynamic").arg(&whole));
    for line in out.lines().filter(|line| line.contains("(NEEDED)")) {
        assert!(SYSTEM.iter().any(|name| line.contains(name)), "{line}");
    }
}

/// A function that no hostile program calls is one whose bad input nobody tried.
#[test]
fn every_function_is_called_badly() {
    let read = |name| std::fs::read_to_string(root().join("tests/c").join(name));
    const PROGRAMS: [&str; 6] = [
        "check.h",
        "dlpack.c",
        "hostile.c",
        "hostile_exchange.c",
        "hostile_files.c",
        "hostile_methods.c",
    ];
    let text = PROGRAMS.map(|n| read(n).expect("a program"));
    for name in declared() {
        assert!(text.iter().any(|t| t.contains(&format!("{name}("))), "{name} is never called");
    }
}
