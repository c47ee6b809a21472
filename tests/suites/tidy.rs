//! The rules of the house, over this repository and over trees that break them.

use tenon_runtime::ops::{Gradient, Tolerance, table};
use tenon_tests::golden::root;
use tenon_tests::tidy::{RULES, Tree};

#[test]
fn the_house_is_tidy() {
    let tree = Tree::read(&root()).expect("the repository");
    let rules = RULES.iter().copied().flatten();
    let broken: Vec<String> = rules
        .flat_map(|rule| {
            let found = (rule.check)(&tree);
            found.into_iter().map(|what| format!("{}: {what}", rule.name))
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_rule_can_be_broken() {
    for rule in RULES.iter().copied().flatten() {
        let found = (rule.check)(&Tree::of(rule.broken));
        assert!(!found.is_empty(), "nothing breaks the rule: {}", rule.name);
    }
}

/// What the compiled table says, beyond the text of its files.
#[test]
fn every_op_can_be_checked() {
    for entry in table() {
        let cases = (entry.cases)();
        assert!(cases.iter().any(|c| !c.bench), "{}: no case to check", entry.name);
        assert!(cases.iter().all(|c| c.op.name() == entry.name), "{}: a foreign case", entry.name);
        assert_eq!(entry.name, entry.file, "an op lives in the file of its name");
        assert!(entry.tolerance.rel.is_finite() && entry.tolerance.rel < 0.1, "{}", entry.name);
        let exact = entry.tolerance == Tolerance::EXACT;
        assert!(exact || entry.tolerance.rel > 0.0, "{}: no bound", entry.name);
        if let Gradient::None(reason) = entry.gradient {
            assert!(!reason.is_empty(), "{}: no gradient and no reason", entry.name);
        }
    }
}
