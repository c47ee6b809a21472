//! What the README says of the bridges to phone accelerators, by op, is what they take.

use std::collections::BTreeMap;
use std::sync::Arc;

use tenon_backends::cpu::{Cpu, Options as CpuOptions};
use tenon_backends::npu::reference::Evaluator;
use tenon_backends::npu::{Npu, Options, Target, Worth};
use tenon_runtime::backend::Backend;
use tenon_runtime::check::{Direction, Verdict, checks};
use tenon_tests::golden::root;

const BEGIN: &str = "<!-- bridges: written by tests/suites/bridges.rs -->\n";
const END: &str = "<!-- bridges end -->\n";

/// Of an op, each bridge, forward and backward: how many cases it takes at which level, of how many.
type Table = BTreeMap<&'static str, [[BTreeMap<u32, (usize, usize)>; 2]; 2]>;

/// Runs every op's cases at the levels of both bridges; what is taken must be right.
fn table() -> Table {
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(CpuOptions::default()).expect("the CPU"));
    let options = Options { worth: Worth::ALL, compare: false, ..Options::default() };
    let mut table = Table::new();
    for (bridge, levels) in [(0, &[3, 4, 6][..]), (1, &[16, 17, 18])] {
        for &level in levels {
            let target = if bridge == 0 { Target::Nnapi(level) } else { Target::CoreMl(level) };
            let npu = Npu::new(Arc::new(Evaluator(target)), target, cpu.clone(), options);
            let backend: Arc<dyn Backend> = Arc::new(npu);
            for check in checks() {
                let way = usize::from(check.direction != Direction::Forward);
                let row = table.entry(check.entry.name).or_default();
                let (taken, all) = row[bridge][way].entry(level).or_default();
                *all += 1;
                match check.run(&backend, &cpu) {
                    Verdict::Passed(_) => *taken += 1,
                    Verdict::Skipped => {}
                    wrong => panic!("{} on {target:?}: {wrong:?}", check.case.label()),
                }
            }
        }
    }
    table
}

/// From which level on cases are taken, and whether all are at the last.
fn cell(levels: &BTreeMap<u32, (usize, usize)>) -> String {
    let first = levels.iter().find(|(_, (taken, _))| *taken > 0);
    match (first, levels.values().last()) {
        (Some((level, _)), Some((taken, all))) if taken == all => level.to_string(),
        (Some((level, _)), _) => format!("{level}, some"),
        _ if levels.is_empty() => "none".to_owned(),
        _ => "CPU".to_owned(),
    }
}

/// Ops that are taken alike stand in one row.
fn text() -> String {
    let mut rows: BTreeMap<[String; 4], Vec<String>> = BTreeMap::new();
    for (op, [nnapi, mil]) in table() {
        let cells = [&nnapi[0], &nnapi[1], &mil[0], &mil[1]].map(cell);
        rows.entry(cells).or_default().push(format!("`{op}`"));
    }
    let mut text =
        "| ops | NNAPI, forward | backward | Core ML, forward | backward | validated by |\n\
                    |---|---|---|---|---|---|\n"
            .to_owned();
    for (cells, ops) in rows {
        let by = match (cells[0].as_str(), cells[2].as_str()) {
            ("CPU", "CPU") => "",
            ("CPU", _) => "coremltools",
            _ => "stand-in, coremltools",
        };
        text += &format!("| {} | {} | {by} |\n", ops.join(" "), cells.join(" | "));
    }
    text
}

/// The README's table of ops and bridges.
///
/// After changing what is lowered: `TENON_BLESS=1 cargo test --release -p tenon-tests --test bridges`.
#[test]
fn the_readme_says_what_is_taken() {
    // Notes of graphs are not for other runs.
    let cache = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("bridges");
    // SAFETY: no other test of this file reads the environment.
    unsafe { std::env::set_var("TENON_CACHE", cache) };
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("the README");
    let (before, rest) = readme.split_once(BEGIN).expect("where the table begins");
    let (table, after) = rest.split_once(END).expect("where it ends");
    let fresh = text();
    if std::env::var_os("TENON_BLESS").is_some() {
        std::fs::write(&path, [before, BEGIN, &fresh, END, after].concat()).expect("the README");
        return;
    }
    assert!(table == fresh, "the README's table is stale; it is now:\n{fresh}");
}
