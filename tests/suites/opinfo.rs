//! PyTorch's operator samples: outputs and vector-Jacobian products, each within its bound.

use std::collections::BTreeMap;

use tenon_tests::golden::report;
use tenon_tests::opinfo::{Stop, answer, rules, samples};

/// Of the 853 samples; fewer would mean that an op lost its place in the table.
const AT_LEAST: usize = 500;

#[test]
fn samples_are_answered() {
    let (samples, tensors) = samples();
    let rules = rules();
    let backends = tenon_backends::all().expect("the CPU backend");
    let (mut passed, mut worst) = (0, (0f32, String::new()));
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let name = format!("{}/{} #{i}", sample.op, sample.variant);
        let answered = match rules.get(&sample.op[..]) {
            Some(&rule) => answer(rule, sample, &tensors, &backends),
            None => Err(Stop::LeftOut(format!("no rule for {}", sample.op))),
        };
        match answered {
            Ok(used) => {
                passed += 1;
                if used > worst.0 {
                    worst = (used, name);
                }
            }
            Err(Stop::LeftOut(why)) => *left_out.entry(why).or_default() += 1,
            Err(Stop::Failed(why)) => failures.push(format!("{name}: {why}")),
        }
    }
    let run = passed + failures.len();
    report(&format!("opinfo: {} samples, {run} run, {passed} passed", samples.len()));
    report(&format!("  most of a bound used: {:.2} by {}", worst.0, worst.1));
    for (why, count) in &left_out {
        report(&format!("  left out {count:3}: {why}"));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(run >= AT_LEAST, "only {run} samples were run");
}

/// A judge that accepts anything is none.
#[test]
fn a_wrong_rule_is_caught() {
    let (samples, tensors) = samples();
    let backends = tenon_backends::all().expect("the CPU backend");
    let sub = rules()["sub"];
    let add = samples.iter().find(|s| s.op == "add").expect("a sample of add");
    assert!(matches!(answer(sub, add, &tensors, &backends), Err(Stop::Failed(_))));
}
