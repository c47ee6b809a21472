//! The C ABI against every release of it: `tests/abi/VERSION` holds a release's header, without its
//! words, its operators' names, and what abidw says of its library. What those have, today's header
//! and library have; what is new has a version above theirs; and callers of any version are served.
//!
//! A release is kept by `TENON_RELEASE=1 tests/run gate`, once, when it is made.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, OnceLock};

use tenon_runtime::ops::table;
use tenon_tests::bindings::{constants, functions, generated, stub};
use tenon_tests::golden::{report, root};
use tenon_tests::programs::{Build, Program, Workshop, include, outcome, run};

static SHOP: LazyLock<Workshop> =
    LazyLock::new(|| Workshop::new(env!("CARGO_TARGET_TMPDIR"), "gate"));

/// A version that is out.
struct Release {
    version: &'static str,
    number: u32,
    /// Where its header lies, as `tenon.h`.
    include: PathBuf,
    bindings: String,
    /// What abidw said of its library.
    abi: PathBuf,
    /// Its operators.
    operators: String,
}

/// A version as `TN_VERSION` has it.
fn number(version: &str) -> u32 {
    version.split('.').fold(0, |sum, part| 100 * sum + part.parse::<u32>().expect("a version"))
}

/// All releases, oldest first.
fn releases() -> &'static [Release] {
    static RELEASES: OnceLock<Vec<Release>> = OnceLock::new();
    RELEASES.get_or_init(|| {
        let folder = root().join("tests/abi");
        if std::env::var_os("TENON_RELEASE").is_some() {
            keep(&folder.join(env!("CARGO_PKG_VERSION")));
        }
        let entries = std::fs::read_dir(&folder).expect("tests/abi is there");
        let mut all: Vec<_> = entries
            .map(|entry| {
                let include = entry.expect("an entry").path();
                let version = include.file_name().expect("a name").to_string_lossy().into_owned();
                Release {
                    number: number(&version),
                    version: version.leak(),
                    bindings: generated(&include.join("tenon.h")),
                    abi: include.join("libtenon.abi"),
                    operators: std::fs::read_to_string(include.join("operators")).expect("a list"),
                    include,
                }
            })
            .collect();
        all.sort_by_key(|release| release.number);
        assert!(!all.is_empty(), "no release");
        all
    })
}

/// Names are an interface, too: a line for each operator, with its attributes and their kinds.
fn operators() -> String {
    let mut out = String::new();
    for op in table() {
        let cases = (op.cases)();
        let attrs: BTreeSet<String> = cases
            .iter()
            .flat_map(|case| case.op.attrs())
            .map(|(name, value)| {
                let value = format!("{value:?}");
                format!(" {name}:{}", value.split('(').next().unwrap_or_default())
            })
            .collect();
        out += op.name;
        out.extend(attrs);
        out.push('\n');
    }
    out
}

/// Operators and attributes of a release that are no more.
fn unnamed(release: &Release) -> Vec<String> {
    let today = operators();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let find = |name: Option<&str>| today.lines().find(|line| line.split(' ').next() == name);
    let mut lost = Vec::new();
    for line in release.operators.lines() {
        let now = find(line.split(' ').next()).map(words).unwrap_or_default();
        lost.extend(words(line).difference(&now).map(|word| format!("`{word}` of `{line}`")));
    }
    lost
}

/// Keeps today's header and library as a release.
fn keep(folder: &Path) {
    assert!(!folder.exists(), "{} is out, and stays as it is", folder.display());
    std::fs::create_dir_all(folder).expect("tests/abi can be written");
    let words = ["-fpreprocessed", "-dD", "-E", "-P"];
    let bare = run(Command::new("gcc").args(words).arg(include().join("tenon.h")));
    std::fs::write(folder.join("tenon.h"), &bare).expect("it can be written");
    std::fs::write(folder.join("operators"), operators()).expect("it can be written");
    // The library itself has the same types and functions, and the standard library's beside them.
    let library = stub_library("release", &bare);
    let parts = ["--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--no-elf-needed"];
    let said = run(Command::new("abidw").args(parts).arg("--no-parameter-names").arg(library));
    // Without sources' paths.
    let lines = said.lines().map(|line| {
        let line = line.trim_start();
        match line.split_once(" path='") {
            Some((before, after)) => {
                format!("{before}{}\n", after.split_once('\'').unwrap_or_default().1)
            }
            None => format!("{line}\n"),
        }
    });
    std::fs::write(folder.join("libtenon.abi"), lines.collect::<String>()).expect("as above");
}

/// A library that has what a header declares, and does nothing.
fn stub_library(name: &str, header: &str) -> PathBuf {
    let folder = SHOP.scratch(&format!("stub-{name}"));
    let [header_file, source, library] =
        ["tenon.h", "lib.rs", "libtenon.so"].map(|f| folder.join(f));
    std::fs::write(&header_file, header).expect("a scratch file");
    std::fs::write(&source, stub(&generated(&header_file))).expect("a scratch file");
    let options = ["--edition=2024", "--crate-name=tenon", "--crate-type=cdylib", "-g"];
    // Nothing is left out or shared: a function is known by its code's place.
    let more = ["-Copt-level=0", "-Cpanic=abort", "-Ccodegen-units=1", "-o"];
    run(Command::new("rustc").args(options).args(more).arg(&library).arg(source));
    library
}

/// Today's library, with the debug information that tells its types.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = SHOP.target().to_string_lossy();
        let mut words = vec!["build", "--quiet", "--release", "--package", "tenon"];
        words.extend(["--config", "profile.release.package.tenon.debug=\"full\""]);
        words.extend(["--target-dir", &target]);
        SHOP.cargo(&words, &[]);
        SHOP.target().join("release/libtenon.so")
    })
}

/// What abidiff says of a library after a release.
fn abidiff(release: &Release, library: &Path) -> String {
    let mut command = Command::new("abidiff");
    // Harmless for it is a field of another name, too, which is how two of one type change places.
    command.args(["--leaf-changes-only", "--harmless", "--no-show-locs"]);
    let (same, said) = outcome(command.arg(&release.abi).arg(library));
    if same { String::new() } else { said }
}

/// What of its report breaks callers: all but functions that are added, fields that are added at a
/// struct's end, and names for fields that were `unused`.
fn breaks(said: &str) -> Vec<String> {
    let (mut broken, mut of, mut size) = (Vec::new(), "", None);
    for line in said.lines().filter(|line| !line.is_empty()) {
        let text = line.trim();
        if text.ends_with("' changed:") {
            (of, size) = (text, None);
            continue;
        }
        let bits = |from: &str| -> Option<u64> {
            text.split_once(from)?.1.split_whitespace().next()?.parse().ok()
        };
        let fine = if let Some(rest) = text.strip_prefix("type size changed from ") {
            size = rest.split_whitespace().next().and_then(|bits| bits.parse::<u64>().ok());
            bits(" to ") > size
        } else if text.contains("', at offset ") {
            size.is_some() && bits("', at offset ") >= size
        } else if let Some((old, _)) = text.split_once("' changed to '") {
            old.starts_with("name of '") && old.contains("::unused")
        } else {
            const SILENT: &[&str] = &[
                "Leaf changes summary: ",
                "Changed leaf types summary: ",
                "Removed/Changed/Added ",
                "there are data member changes:",
                "type size hasn't changed",
                "[A] ",
                "exit status: 4",
            ];
            let counted = |what: &str| {
                [what, &what.replace(':', "s:")].iter().any(|what| text.ends_with(*what))
            };
            SILENT.iter().any(|silent| text.starts_with(silent))
                || counted(" data member insertion:")
                || counted(" data member change:")
                || counted(" Added function:")
        };
        if !fine {
            broken.push(format!("{of} {text}"));
        }
    }
    broken
}

/// Numbers of a release that are others today, or gone.
fn renumbered(release: &Release, today: &str) -> Vec<String> {
    let now: BTreeMap<_, _> = constants(today).into_iter().collect();
    let kept =
        |(name, value): &(String, String)| name == "TN_VERSION" || now.get(name) == Some(value);
    let lost = constants(&release.bindings).into_iter().filter(|row| !kept(row));
    lost.map(|(name, value)| format!("{name} was {value}")).collect()
}

/// All that breaks callers of a release in a library of this header.
fn broken_by(release: &Release, name: &str, header: &str) -> Vec<String> {
    let library = stub_library(name, header);
    let bindings = generated(&library.with_file_name("tenon.h"));
    let mut broken = breaks(&abidiff(release, &library));
    broken.extend(renumbered(release, &bindings));
    broken
}

fn header() -> String {
    std::fs::read_to_string(include().join("tenon.h")).expect("the header")
}

#[test]
#[ignore = "by `tests/run gate`: it needs abidiff"]
fn the_library_keeps_every_release() {
    for release in releases() {
        let said = abidiff(release, library());
        let mut broken = breaks(&said);
        broken.extend(renumbered(release, &generated(&include().join("tenon.h"))));
        broken.extend(unnamed(release));
        report(&format!("gate: {} is kept: {}", release.version, broken.is_empty()));
        assert!(broken.is_empty(), "callers of {} break:\n{broken:#?}\n{said}", release.version);
    }
}

/// Changes of the first release's header: what they are, a text, and what takes its place.
const BREAKS: &[(&str, &str, &str)] = &[
    ("fields that change places", "  float loss;\n  float lr;\n", "  float lr;\n  float loss;\n"),
    ("a field in the middle", "  float grad_norm;\n", "  float grad_norm;\n  uint64_t more;\n"),
    ("a field that goes", "  uint64_t recomputed_nodes;\n", ""),
    ("a field that gets wider", "  uint32_t lora_rank;\n", "  uint64_t lora_rank;\n"),
    ("a field that counts otherwise", "  uint32_t threads;\n", "  float threads;\n"),
    ("a field of another name", "  float momentum;\n", "  float inertia;\n"),
    ("a last field that grows", "  uint64_t spilled_bytes;\n", "  uint64_t spilled_bytes[2];\n"),
    ("a struct that shrinks", "  size_t axis_count;\n} tn_submodel;", "} tn_submodel;"),
    ("a function that goes", "tn_status tn_session_begin_round(tn_session *session);\n", ""),
    ("an argument of another type", "uint64_t memory_budget);", "uint32_t memory_budget);"),
    ("an argument more", "tn_session_begin_round(tn_session *session", "$&, int32_t more"),
    ("a result of another type", "size_t tn_error_message(", "int32_t tn_error_message("),
    (
        "a callback that is called otherwise",
        "uint64_t done, uint64_t total",
        "uint32_t done, uint64_t total",
    ),
    ("a code of another number", "TN_ERROR_DEVICE = 10,", "TN_ERROR_DEVICE = 12,"),
    ("a type that goes", "  TN_U8 = 5,\n", ""),
];

/// Changes that callers do not notice.
const ADDITIONS: &[(&str, &str, &str)] = &[
    ("a field at the end", "  uint64_t spilled_bytes;\n", "$&  uint64_t more;\n"),
    ("a name for what was unused", "  float unused;\n", "  float more;\n"),
    ("a function", "uint32_t tn_version(void);\n", "$&tn_status tn_more(tn_context *context);\n"),
    ("a code", "TN_ERROR_INTERNAL = 11", "$&,\n  TN_ERROR_MORE = 12"),
    (
        "a struct",
        "uint32_t tn_version(void);\n",
        "$&typedef struct { int a; } tn_box;\nvoid tn_more(tn_box *box);\n",
    ),
];

fn changed(first: &str, from: &str, to: &str) -> String {
    assert!(first.contains(from), "{from} is not in the first release's header");
    first.replacen(from, &to.replace("$&", from), 1)
}

#[test]
#[ignore = "by `tests/run gate`: it needs abidiff"]
fn the_gate_tells_what_breaks_from_what_adds() {
    let release = &releases()[0];
    let first = std::fs::read_to_string(release.include.join("tenon.h")).expect("it is there");
    let unchanged = broken_by(release, "same", &first);
    assert!(unchanged.is_empty(), "{unchanged:#?}");
    for (number, (what, from, to)) in BREAKS.iter().enumerate() {
        let broken = broken_by(release, &format!("break-{number}"), &changed(&first, from, to));
        assert!(!broken.is_empty(), "the gate lets {what} through");
        let named = broken.iter().find(|line| line.contains('\'')).unwrap_or(&broken[0]);
        report(&format!("gate: {what}: {}", named.trim()));
    }
    for (number, (what, from, to)) in ADDITIONS.iter().enumerate() {
        let broken = broken_by(release, &format!("add-{number}"), &changed(&first, from, to));
        assert!(broken.is_empty(), "the gate holds up {what}:\n{broken:#?}");
    }
    report(&format!(
        "gate: {} breaks caught, {} additions let through",
        BREAKS.len(),
        ADDITIONS.len()
    ));
}

/// The version that a function's marks name, right above its declaration.
fn since(header: &str, function: &str) -> u32 {
    let called = format!("{function}(");
    let mut mark = None;
    for line in header.lines() {
        mark = line.split_once(" Since ").map(|(_, version)| version).or(mark);
        if line.starts_with(char::is_alphabetic) && line.contains(&called) {
            let version = mark.and_then(|mark| mark.split('.').next()?.parse().ok());
            return version.unwrap_or_else(|| panic!("{function} has no mark `Since`"));
        }
    }
    panic!("{function} is not declared")
}

#[test]
#[ignore = "by `tests/run gate`: it needs abidiff"]
fn what_is_new_has_a_version_of_its_own() {
    let (header, latest) = (header(), releases().last().expect("a release"));
    let bindings = generated(&include().join("tenon.h"));
    let now = constants(&bindings).into_iter().find(|(name, _)| name == "TN_VERSION");
    let now = now.expect("it has a version").1;
    assert_eq!(now, number(env!("CARGO_PKG_VERSION")).to_string(), "TN_VERSION and Cargo.toml");
    let old: BTreeSet<_> = functions(&latest.bindings).into_iter().collect();
    for name in functions(&bindings) {
        let new = since(&header, &name) > latest.number;
        assert_eq!(new, !old.contains(&name), "{name}: its mark `Since` is not right");
    }
    let grown = !abidiff(latest, &stub_library("today", &header)).is_empty()
        || constants(&bindings).len() != constants(&latest.bindings).len();
    assert!(
        !grown || number(env!("CARGO_PKG_VERSION")) > latest.number,
        "the header has more than {}, which is out: raise TN_VERSION and the version in Cargo.toml",
        latest.version
    );
}

/// The header as it may be: every struct has a field more, and there is a function that is new.
fn tomorrow() -> String {
    let (mut out, mut sized) = (String::new(), false);
    for line in header().lines() {
        sized |= line.trim() == "size_t struct_size;";
        if line.starts_with("} tn_") && std::mem::take(&mut sized) {
            out += "  uint64_t tomorrow;\n";
        }
        match line.strip_prefix("#define TN_VERSION ") {
            Some(version) => {
                out += &format!("#define TN_VERSION ({version} + 1)\n#define TN_TOMORROW 1\n");
            }
            None => out += &format!("{line}\n"),
        }
    }
    out.replace(
        "uint32_t tn_version(void);",
        "uint32_t tn_version(void);\ntn_status tn_tomorrow(tn_context *context);",
    )
}

#[test]
#[ignore = "by `tests/run gate`: it needs abidiff"]
fn callers_of_every_version_are_served() {
    const BUILDS: [Build; 2] = [
        Build { compiler: "gcc", standard: "c99", language: "c", shared: true },
        Build { compiler: "g++", standard: "c++17", language: "c++", shared: true },
    ];
    let future = SHOP.scratch("tomorrow");
    std::fs::write(future.join("tenon.h"), tomorrow()).expect("a scratch file");
    let mut headers = vec![("today", include()), ("tomorrow", future)];
    headers.extend(releases().iter().map(|release| (release.version, release.include.clone())));
    let broken = broken_by(&releases()[0], "tomorrow", &tomorrow());
    assert!(broken.is_empty(), "tomorrow's header breaks callers: {broken:#?}");
    let program = Program::named("callers");
    let mut bits = BTreeSet::new();
    for (version, include) in &headers {
        for build in BUILDS {
            let built = SHOP.scratch("bin").join(format!("callers-{version}-{}", build.compiler));
            let mut command = build.command(include);
            // The header's own functions leave out what was added for this test.
            command
                .args(["-O1", "-Wno-missing-field-initializers"])
                .arg(root().join(program.source));
            command.args(["-x", "none"]).arg(library()).arg("-o").arg(&built);
            run(command
                .arg(format!("-Wl,-rpath,{}", library().with_file_name("").display()))
                .arg("-ldl"));
            for out in SHOP.run(program, &built, &[]) {
                (program.check)(&out);
                report(&format!("callers of {version}: {}", out.trim().replace('\n', ", ")));
                bits.extend(out.lines().next().map(str::to_owned));
            }
        }
    }
    assert_eq!(bits.len(), 1, "callers of some version compute something else: {bits:?}");
}
