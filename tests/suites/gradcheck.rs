//! Every op's gradient against finite differences, on the level that `TENON_ISA` gives.

use std::collections::BTreeSet;
use std::sync::Arc;

use tenon_backends::cpu::{Cpu, Options};
use tenon_runtime::backend::Backend;
use tenon_runtime::check::{Direction, Verdict, checks};
use tenon_runtime::ops::{Gradient, table};
use tenon_tests::golden::report;

/// Gradients that are another function's on purpose: the identity's, through a rounding. Their own
/// backend tests check them.
const STRAIGHT_THROUGH: &[&str] = &["quantize", "dequantize", "quantize_ste"];

#[test]
fn gradients_are_those_of_finite_differences() {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Options::default()).expect("the CPU"));
    let (mut checked, mut seen, mut failures) = (0, BTreeSet::new(), Vec::new());
    for check in checks() {
        let Direction::Gradient(operand) = check.direction else { continue };
        (checked, _) = (checked + 1, seen.insert(check.entry.name));
        match check.run(&backend, &backend) {
            Verdict::Passed(_) => {}
            other => failures.push(format!("{} toward {operand}: {other:?}", check.case.label())),
        }
    }
    for entry in table().iter().filter(|e| e.gradient == Gradient::Vjp) {
        if !seen.contains(entry.name) && !STRAIGHT_THROUGH.contains(&entry.name) {
            failures.push(format!("{}: has a gradient but no case that checks it", entry.name));
        }
    }
    report(&format!("gradcheck on {}: {checked} gradients", backend.describe().level));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
