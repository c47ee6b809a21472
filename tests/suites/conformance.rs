//! Every op's cases on every backend and instruction-set level, against the portable level.
//!
//! A device runs what it claims and leaves the rest to the CPU; `TENON_EXPECT_VULKAN=1` makes it an
//! error that there is none.

use std::sync::Arc;

use tenon_backends::cpu::{Cpu, Options};
use tenon_backends::null::Null;
use tenon_kernels::Isa;
use tenon_runtime::backend::Backend;
use tenon_runtime::check::{Check, Direction, Verdict, checks, ends, make};
use tenon_runtime::executor::Executor;
use tenon_runtime::ops::table;
use tenon_tests::device;
use tenon_tests::golden::report;

fn cpu(isa: Isa) -> Arc<dyn Backend> {
    let options = Options { isa: Some(isa), ..Options::default() };
    Arc::new(Cpu::new(options).expect("an available level"))
}

#[test]
fn levels_agree_with_the_portable_one() {
    let levels: Vec<_> = Isa::available().map(cpu).collect();
    compare(&levels, checks().chain(ends()));
}

#[test]
fn a_device_agrees_with_the_portable_level() {
    if let Some(device) = device::vulkan("conformance", |_| {}) {
        let left = compare(&[Arc::new(device)], checks());
        // Encoders that fit scales by a search.
        let is_known =
            |label: &&String| label.contains("format=q4_k") || label.contains("format=q6_k");
        let unknown: Vec<_> = left.iter().filter(|label| !is_known(label)).collect();
        assert!(unknown.is_empty(), "the device does not run {unknown:?}");
    }
}

/// Compares, and gives the cases that some level leaves to others.
fn compare(backends: &[Arc<dyn Backend>], checks: impl Iterator<Item = Check>) -> Vec<String> {
    let reference = cpu(Isa::PORTABLE);
    let (mut compared, mut failures, mut left) = (0, Vec::new(), Vec::new());
    for check in checks.filter(|check| check.direction == Direction::Forward) {
        for backend in backends {
            let verdict = check.run(backend, &reference);
            if matches!(verdict, Verdict::Wrong(_) | Verdict::Failed(_)) {
                let level = backend.describe().level;
                failures.push(format!("{} on {level}: {verdict:?}", check.case.label()));
            }
            match verdict {
                Verdict::Skipped => left.push(check.case.label()),
                _ => compared += 1,
            }
        }
    }
    let names: Vec<_> = backends.iter().map(|b| b.describe().level).collect();
    report(&format!("conformance: {compared} cases on {}", names.join(", ")));
    if !left.is_empty() {
        report(&format!("conformance: {} left to the CPU: {}", left.len(), left.join("; ")));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    left
}

/// Planning and launching every case takes no device.
#[test]
fn the_null_backend_takes_every_case() {
    let null = Null::default();
    let backend: Arc<dyn Backend> = Arc::new(null.clone());
    for case in table().iter().flat_map(|e| (e.cases)()).filter(|c| !c.bench) {
        let made = make(&case, 1).expect("a case");
        let before = null.launches();
        let executor = Executor::new(made.graph, std::slice::from_ref(&backend), &made.tensors);
        let mut executor = executor.unwrap_or_else(|e| panic!("{}: {e}", case.label()));
        executor.run(&mut ()).expect("a run of nothing");
        let launched = null.launches() - before;
        let alias = matches!(case.op.name(), "after" | "reshape");
        assert_eq!(launched, usize::from(!alias), "{}", case.label());
    }
}
