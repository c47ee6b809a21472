//! What sources may say.

use super::{Rule, Tree};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "every unsafe block says why it is safe",
        check: unsafe_blocks,
        broken: &[("runtime/src/bad.rs", "fn f(p: *const u8) -> u8 {\n    unsafe { *p }\n}\n")],
    },
    Rule {
        name: "every unsafe function says what it asks",
        check: unsafe_functions,
        broken: &[("runtime/src/bad.rs", "/// Reads.\npub unsafe fn f(p: *const u8) {}\n")],
    },
    Rule {
        name: "nothing is left to be done",
        check: unfinished,
        broken: &[("runtime/src/bad.rs", concat!("fn f() { to", "do!() }\n"))],
    },
    Rule {
        name: "no machine's paths",
        check: machine_paths,
        broken: &[("README.md", concat!("see /ho", "me/someone/tenon\n"))],
    },
    Rule {
        name: "libraries do not print",
        check: printing,
        broken: &[("kernels/src/bad.rs", "fn f() { println!(\"hello\"); }\n")],
    },
];

/// Lines above a block in which its reason may stand.
const NEARBY: usize = 6;

/// Written in two parts so that this file does not break its own rule.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
];

const MACHINE: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("C:\\", "Users"),
];

/// Each line of the Rust files that a test accepts, as a message.
fn lines(tree: &Tree, bad: impl Fn(&[&str], usize) -> bool) -> Vec<String> {
    lines_of(tree.rust(), bad)
}

/// Each line of some files that a test accepts, as a message.
fn lines_of<'a>(
    files: impl Iterator<Item = (&'a str, &'a str)>,
    bad: impl Fn(&[&str], usize) -> bool,
) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in files {
        let all: Vec<&str> = text.lines().collect();
        let bad = (0..all.len()).filter(|&i| bad(&all, i));
        broken.extend(bad.map(|i| format!("{path}:{}: {}", i + 1, all[i].trim())));
    }
    broken
}

/// The part of a line that is code, outside comments and (roughly) strings.
fn code(line: &str) -> &str {
    line.split("//").next().and_then(|l| l.split('"').next()).unwrap_or_default()
}

fn unsafe_blocks(tree: &Tree) -> Vec<String> {
    lines(tree, |all, i| {
        let opens = code(all[i]).contains("unsafe {") || code(all[i]).contains("unsafe impl");
        opens && !all[i.saturating_sub(NEARBY)..=i].iter().any(|l| l.contains("SAFETY:"))
    })
}

fn unsafe_functions(tree: &Tree) -> Vec<String> {
    lines(tree, |all, i| {
        let declares = code(all[i]).trim_start().starts_with("pub unsafe fn");
        let above = all[..i].iter().rev().map(|l| l.trim_start());
        let mut comment = above.take_while(|l| l.starts_with("///") || l.starts_with("#["));
        declares && !comment.any(|l| l.contains("# Safety"))
    })
}

fn unfinished(tree: &Tree) -> Vec<String> {
    lines_of(tree.sources(), |all, i| UNFINISHED.iter().any(|word| all[i].contains(word)))
}

fn machine_paths(tree: &Tree) -> Vec<String> {
    let text = tree.files.iter().filter(|(p, _)| !p.starts_with("tests/golden/"));
    text.flat_map(|(path, text)| {
        let found = text.lines().filter(|l| MACHINE.iter().any(|m| l.contains(m)));
        found.map(move |l| format!("{path}: {}", l.trim()))
    })
    .collect()
}

fn printing(tree: &Tree) -> Vec<String> {
    const LIBRARIES: &[&str] = &["kernels/src/", "runtime/src/", "backends/src/", "ffi/src/"];
    const MACROS: &[&str] = &["println!", "eprintln!", "print!", "eprint!", "dbg!"];
    let in_library = |path: &str| LIBRARIES.iter().any(|l| path.starts_with(l));
    let mut broken = Vec::new();
    for (path, text) in tree.rust().filter(|(p, _)| in_library(p) && !p.ends_with("tests.rs")) {
        // Unit tests come last in a file and may report.
        let library = text.lines().take_while(|l| !l.starts_with("#[cfg(test)]"));
        let prints = |line: &&str| {
            code(line).split_whitespace().any(|word| MACROS.iter().any(|m| word.starts_with(m)))
        };
        broken.extend(library.filter(prints).map(|l| format!("{path}: {}", l.trim())));
    }
    broken
}
