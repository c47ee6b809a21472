//! Every op's gradient against finite differences, on the level that `TENON_ISA` gives.

use std::sync::Arc;

use tenon_backends::cpu::{Cpu, Options};
use tenon_runtime::backend::Backend;
use tenon_runtime::ops::{Gradient, table};
use tenon_tests::cases::check_gradient;
use tenon_tests::golden::report;

/// Gradients that are another function's on purpose: the identity's, through a rounding. Their own
/// backend tests check them.
const STRAIGHT_THROUGH: &[&str] = &["quantize", "dequantize", "quantize_ste"];

#[test]
fn gradients_are_those_of_finite_differences() {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Options::default()).expect("the CPU"));
    let (mut checked, mut failures) = (0, Vec::new());
    for entry in table().iter().filter(|e| e.gradient == Gradient::Vjp) {
        let before = checked;
        for (seed, case) in (entry.cases)().into_iter().enumerate().filter(|(_, c)| !c.bench) {
            for wrt in (0..case.operands.len()).filter(|&i| case.operands[i].differentiate) {
                checked += 1;
                match check_gradient(&case, wrt, &backend, seed as u64 + 1) {
                    Ok(check) if check.excess() <= 1.0 => {}
                    Ok(check) => failures.push(format!("{} toward {wrt}: {check:?}", case.label())),
                    Err(e) => failures.push(format!("{} toward {wrt}: {e}", case.label())),
                }
            }
        }
        if before == checked && !STRAIGHT_THROUGH.contains(&entry.name) {
            failures.push(format!("{}: has a gradient but no case that checks it", entry.name));
        }
    }
    report(&format!("gradcheck on {}: {checked} gradients", backend.describe().level));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
