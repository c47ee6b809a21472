//! Where things are, and who may know whom.

use super::{Rule, Tree};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "dependencies point one way",
        check: direction,
        broken: &[("kernels/Cargo.toml", "[dependencies]\ntenon-runtime = { workspace = true }\n")],
    },
    Rule {
        name: "sources use only what lies below them",
        check: uses,
        broken: &[("runtime/src/bad.rs", "use tenon_backends::cpu::Cpu;\n")],
    },
    Rule { name: "files are short", check: length, broken: &[("runtime/src/long.rs", LONG)] },
    Rule {
        name: "every source is part of a crate",
        check: reachable,
        broken: &[("runtime/src/lib.rs", "mod used;\n"), ("runtime/src/dead.rs", "")],
    },
    Rule {
        name: "the top level is the agreed one",
        check: top_level,
        broken: &[("scratch/notes.txt", "")],
    },
];

/// Most lines of a source file.
const MOST_LINES: usize = 600;

/// Longer files: the header is a manual in one piece, the others are tables.
const TABLES: &[&str] = &["ffi/include/tenon.h", "ffi/src/abi.rs", "backends/src/nnapi/sys.rs"];

/// Crate folders with their library's name and what they may depend on.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("kernels", "tenon_kernels", &[]),
    ("runtime", "tenon_runtime", &["tenon_kernels"]),
    ("backends", "tenon_backends", &["tenon_kernels", "tenon_runtime"]),
    ("ffi", "tenon", &["tenon_kernels", "tenon_runtime", "tenon_backends"]),
];

/// Entries of the repository's root.
const TOP: &[&str] = &[
    ".ci",
    ".github",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "backends",
    "bench",
    "ffi",
    "kernels",
    "runtime",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
];

const LONG: &str = {
    const BYTES: [u8; MOST_LINES + 1] = [b'\n'; MOST_LINES + 1];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

fn direction(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (folder, _, allowed) in CRATES {
        let manifest = tree.get(&format!("{folder}/Cargo.toml"));
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default().replace('-', "_");
            let ours = name == "tenon" || name.starts_with("tenon_");
            if section.contains("dependencies") && ours && !allowed.contains(&&*name) {
                broken.push(format!("{folder}/Cargo.toml: depends on {name}"));
            }
        }
    }
    broken
}

fn uses(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (folder, own, allowed) in CRATES {
        for (path, text) in tree.rust().filter(|(p, _)| p.starts_with(&format!("{folder}/src/"))) {
            for (_, other, _) in CRATES.iter().filter(|c| c.1 != *own && !allowed.contains(&c.1)) {
                let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
                if code.clone().any(|l| mentions(l, other)) {
                    broken.push(format!("{path}: uses {other}"));
                }
            }
        }
    }
    broken
}

/// Whether a line names a path of the crate, as a whole word.
fn mentions(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

fn length(tree: &Tree) -> Vec<String> {
    tree.sources()
        .filter(|(path, _)| !TABLES.contains(path))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|&(_, lines)| lines > MOST_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect()
}

/// A file `a/b.rs` or `a/b/mod.rs` needs a `mod b` (or a table's row `b::Name`) in the module of
/// its folder.
fn reachable(tree: &Tree) -> Vec<String> {
    tree.rust()
        .map(|(path, _)| path)
        .filter(|path| path.contains("/src/") && !is_declared(tree, path))
        .map(|path| format!("{path}: no `mod` leads to it"))
        .collect()
}

fn is_declared(tree: &Tree, path: &str) -> bool {
    let (mut folder, mut name) = path.rsplit_once('/').unwrap_or(("", path));
    if matches!(name, "lib.rs" | "main.rs") || folder.ends_with("/bin") {
        return true;
    }
    if name == "mod.rs" {
        (folder, name) = folder.rsplit_once('/').unwrap_or(("", folder));
    }
    let name = name.trim_end_matches(".rs");
    let parents =
        ["/mod.rs", "/lib.rs", "/main.rs", ".rs"].map(|suffix| format!("{folder}{suffix}"));
    parents.iter().any(|parent| {
        tree.get(parent).lines().map(str::trim).any(|line| {
            line.split("mod ")
                .nth(1)
                .is_some_and(|rest| rest.trim_end_matches(" {") == format!("{name};"))
                || line.starts_with(&format!("{name}::"))
        })
    })
}

fn top_level(tree: &Tree) -> Vec<String> {
    let mut entries: Vec<&str> =
        tree.files.keys().filter_map(|path| path.split('/').next()).collect();
    entries.dedup();
    entries.retain(|entry| !TOP.contains(entry));
    entries.into_iter().map(|entry| format!("{entry}: is not one of {TOP:?}")).collect()
}
