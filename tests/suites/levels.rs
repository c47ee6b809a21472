//! The level that is in use is one of this machine's, and the one that was asked for.

use tenon_kernels::Isa;
use tenon_tests::golden::report;

#[test]
fn the_level_asked_for_is_used() {
    let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
    report(&format!("level {}", isa.name()));
    assert!(Isa::available().any(|level| level == isa));
    if let Ok(name) = std::env::var("TENON_ISA") {
        assert!(name.is_empty() || isa.name() == name);
    }
}

/// Where the emulated processor is known, so is what detection must find.
#[test]
fn detection_finds_what_the_processor_has() {
    if let Ok(name) = std::env::var("TENON_EXPECT_BEST") {
        assert_eq!(Isa::best().name(), name);
    }
}
