//! Every op's cases on every backend and instruction-set level, against the portable level.

use std::sync::Arc;

use tenon_backends::cpu::{Cpu, Options};
use tenon_backends::null::Null;
use tenon_kernels::Isa;
use tenon_runtime::backend::Backend;
use tenon_runtime::check::{Direction, Verdict, checks, make};
use tenon_runtime::executor::Executor;
use tenon_runtime::ops::table;
use tenon_tests::golden::report;

fn cpu(isa: Isa) -> Arc<dyn Backend> {
    let options = Options { isa: Some(isa), ..Options::default() };
    Arc::new(Cpu::new(options).expect("an available level"))
}

#[test]
fn levels_agree_with_the_portable_one() {
    let reference = cpu(Isa::PORTABLE);
    let mut backends: Vec<_> = Isa::available().map(cpu).collect();
    backends.extend(tenon_backends::all().expect("backends"));
    let (mut compared, mut failures) = (0, Vec::new());
    for check in checks().filter(|check| check.direction == Direction::Forward) {
        for backend in &backends {
            let verdict = check.run(backend, &reference);
            if matches!(verdict, Verdict::Wrong(_) | Verdict::Failed(_)) {
                let level = backend.describe().level;
                failures.push(format!("{} on {level}: {verdict:?}", check.case.label()));
            }
            compared += usize::from(!matches!(verdict, Verdict::Skipped));
        }
    }
    report(&format!("conformance: {compared} cases on {} backends", backends.len()));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
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
