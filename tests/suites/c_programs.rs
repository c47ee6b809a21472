//! The library as C and C++ programs meet it: what it exports, that the examples run, and that no
//! bad input gets through. Programs are built as C99, C11 and C++17, by gcc and by clang, without a
//! warning, against the shared and the static library.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, OnceLock};

use tenon_tests::bindings::functions;
use tenon_tests::golden::{report, root};
use tenon_tests::programs::{
    Build, Kind, PROGRAMS, Program, Workshop, include, number_before, run,
};

/// Most bytes of the stripped library: it goes into every app that uses it.
const MOST_BYTES: u64 = 4_000_000;

static SHOP: LazyLock<Workshop> =
    LazyLock::new(|| Workshop::new(env!("CARGO_TARGET_TMPDIR"), "c_programs"));

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

/// The folder of the libraries as they are shipped, which are built first: `cargo test` builds only
/// what the tests link, and they link neither.
fn libraries() -> &'static Path {
    static LIBRARIES: OnceLock<PathBuf> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let target = SHOP.target().to_string_lossy();
        let words = ["build", "--quiet", "--profile", "dist", "--package", "tenon", "--target-dir"];
        SHOP.cargo(&[&words[..], &[&target]].concat(), &[]);
        SHOP.target().join("dist")
    })
}

/// A program built from a C file, in the folder of one test: another may be running its own.
fn compile(folder: &str, source: &Path, build: Build, linked: bool) -> PathBuf {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let kind = if build.shared { "shared" } else { "static" };
    let program =
        SHOP.scratch(folder).join(format!("{stem}-{}-{}-{kind}", build.compiler, build.standard));
    let mut command = build.command(&include());
    command.arg("-O2").arg(source).arg("-o").arg(&program);
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

/// The header by itself, and every program that includes it.
#[test]
fn every_compiler_takes_the_header() {
    let header = SHOP.scratch("header").join("header.c");
    let text = "#include <tenon.h>\n#include <tenon.h>\nint main(void) { return 0; }\n";
    std::fs::write(&header, text).expect("a source can be written");
    for build in builds() {
        compile("header", &header, build, true);
        for name in ["train_mlp", "versions", "wrong"] {
            compile("header", &root().join(Program::named(name).source), build, true);
        }
    }
    report(&format!("header: {} builds without a warning", builds().count()));
}

/// Runs a program's builds, each in a folder of its own; what they print must be the same.
fn try_out(program: &Program) {
    let source = root().join(program.source);
    let mut first: Option<Vec<String>> = None;
    for build in run_builds() {
        let built = compile("bin", &source, build, true);
        let printed = SHOP.run(program, &built, &[]);
        if let Some(first) = &first {
            assert_eq!(&printed, first, "{} prints something else", built.display());
        } else {
            printed.iter().for_each(|out| program.judge(out));
            first = Some(printed);
        }
    }
}

#[test]
fn every_program_runs() {
    let linked = PROGRAMS.iter().filter(|program| program.kind == Kind::Linked);
    let left = Mutex::new(linked);
    let work = || {
        while let Some(program) = left.lock().map(|mut left| left.next()).ok().flatten() {
            try_out(program);
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
}

/// There is one list of them, and it is whole.
#[test]
fn every_program_is_listed() {
    for folder in ["ffi/examples", "tests/c"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("sources") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            let source = format!("{folder}/{name}");
            let listed = PROGRAMS.iter().any(|program| program.source == source);
            assert!(listed || !name.ends_with(".c"), "{source} is not in tests/src/programs.rs");
        }
    }
}

#[test]
fn nothing_of_it_stays_when_it_is_unloaded() {
    // Without what malloc keeps for threads, which comes and goes, every byte is counted.
    const EXACT: (&str, &str) =
        ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1");
    for program in PROGRAMS.iter().filter(|program| program.kind == Kind::Loads) {
        for build in run_builds().filter(|build| build.shared) {
            let built = compile("loading", &root().join(program.source), build, false);
            let mut command = Command::new(built);
            command.arg(libraries().join("libtenon.so")).envs([EXACT]);
            let out = run(&mut command);
            program.judge(&out);
            assert_eq!(number_before(&out, " bytes of mappings"), 0, "{out}");
            // A few bytes, once, are the system's.
            assert!(number_before(&out, " of heap") < 4096, "{out}");
        }
    }
}

/// The functions that the header declares, as bindgen read them.
fn declared() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("ffi/src/abi.rs")).expect("it is checked in");
    functions(&text).into_iter().collect()
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
    let stripped = SHOP.scratch("bin").join("libtenon.so");
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
    let is_hostile = |p: &&Program| p.name().starts_with("hostile");
    let hostile =
        PROGRAMS.iter().filter(|p| is_hostile(p) || ["dlpack", "staging"].contains(&p.name()));
    let sources = hostile.map(|program| program.source).chain(["tests/c/check.h"]);
    let read = |source| std::fs::read_to_string(root().join(source)).expect("a program");
    let text: Vec<_> = sources.map(read).collect();
    for name in declared() {
        assert!(text.iter().any(|t| t.contains(&format!("{name}("))), "{name} is never called");
    }
}
