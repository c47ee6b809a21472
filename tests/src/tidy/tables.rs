//! Tables and what must follow from them.

use super::{Rule, Tree};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "every op's file has its kind, its cases and a tolerance",
        check: op_files,
        broken: &[
            ("runtime/src/ops/mod.rs", "ops! {\n    bad::Bad,\n}\n"),
            ("runtime/src/ops/bad.rs", "impl OpKind for Bad {}\n"),
        ],
    },
    Rule {
        name: "every gradient that is missing has a reason",
        check: reasons,
        broken: &[
            ("runtime/src/ops/mod.rs", "ops! {\n    bad::Bad,\n}\n"),
            ("runtime/src/ops/bad.rs", "const GRADIENT: Gradient = Gradient::None(\"\");\n"),
        ],
    },
    Rule {
        name: "every kernel family has a reference and a tolerance",
        check: references,
        broken: &[
            ("kernels/src/lib.rs", "pub mod bad;\n"),
            ("kernels/src/bad/mod.rs", "pub fn run() {}\n"),
        ],
    },
    Rule {
        name: "the README names every crate and every op",
        check: readme,
        broken: &[
            ("README.md", "# Tenon\n"),
            ("runtime/src/ops/mod.rs", "ops! {\n    add::Add,\n}\n"),
        ],
    },
    Rule {
        name: "every suite is in the manifest",
        check: suites,
        broken: &[("tests/suites/lost.rs", ""), ("tests/Cargo.toml", "[package]\n")],
    },
];

/// The names in the rows of `ops! { ... }`.
fn ops(tree: &Tree) -> Vec<&str> {
    let text = tree.get("runtime/src/ops/mod.rs");
    let rows = text.split("\nops! {").nth(1).or_else(|| text.strip_prefix("ops! {"));
    let rows = rows.and_then(|r| r.split("\n}").next()).unwrap_or_default();
    rows.lines().filter_map(|l| l.trim().split_once("::")).map(|(file, _)| file).collect()
}

fn op_file<'a>(tree: &'a Tree, op: &str) -> &'a str {
    tree.get(&format!("runtime/src/ops/{op}.rs"))
}

/// A file either writes its `OpKind` or makes it by one of the families' macros.
fn op_files(tree: &Tree) -> Vec<String> {
    const MACRO: &str = "_op! {";
    const PARTS: &[&str] = &["const NAME", "const TOLERANCE", "fn cases("];
    let mut broken = Vec::new();
    for op in ops(tree) {
        let text = op_file(tree, op);
        let complete = PARTS.iter().all(|part| text.contains(part));
        let by_macro = text.contains(MACRO) && text.contains("Tolerance");
        if !(complete || by_macro) {
            broken.push(format!("runtime/src/ops/{op}.rs: lacks one of {PARTS:?}"));
        }
    }
    broken
}

fn reasons(tree: &Tree) -> Vec<String> {
    let empty = |op: &&str| op_file(tree, op).contains("Gradient::None(\"\")");
    ops(tree).into_iter().filter(empty).map(|op| format!("{op}: no reason")).collect()
}

/// Folders of `kernels/src` that hold machinery rather than kernels.
const NO_KERNELS: &[&str] = &["arch", "simd"];

fn references(tree: &Tree) -> Vec<String> {
    let text = tree.get("kernels/src/lib.rs");
    let families = text.lines().filter_map(|l| l.strip_prefix("pub mod "));
    let families = families.map(|l| l.trim_end_matches(';')).filter(|f| !NO_KERNELS.contains(f));
    let mut broken = Vec::new();
    for family in families {
        let folder = format!("kernels/src/{family}/");
        let files: Vec<_> = tree.rust().filter(|(p, _)| p.starts_with(&folder)).collect();
        let says = |word: &str| files.iter().any(|(_, text)| text.to_lowercase().contains(word));
        if !files.is_empty() && !(says("reference") && (says("tolerance") || says("error"))) {
            broken.push(format!("{folder}: no reference or no tolerance"));
        }
    }
    broken
}

fn readme(tree: &Tree) -> Vec<String> {
    const CRATES: &[&str] = &["kernels", "runtime", "backends", "ffi", "bench", "tests"];
    let text = tree.get("README.md");
    // Other tables name ops, too.
    let (_, table) = text.split_once("| class | operators |").unwrap_or_default();
    let (table, _) = table.split_once("\n\n").unwrap_or((table, ""));
    let crates = CRATES.iter().filter(|c| !text.contains(&format!("{c}/")));
    let ops = ops(tree).into_iter().filter(|op| !table.contains(&format!("`{op}`")));
    crates.copied().chain(ops).map(|name| format!("README.md: does not name {name}")).collect()
}

fn suites(tree: &Tree) -> Vec<String> {
    let manifest = tree.get("tests/Cargo.toml");
    let files = tree.rust().filter_map(|(path, _)| path.strip_prefix("tests/suites/"));
    files
        .filter(|file| !manifest.contains(&format!("\"suites/{file}\"")))
        .map(|file| format!("tests/suites/{file}: is not in tests/Cargo.toml"))
        .collect()
}
