//! The Rust side of the C ABI is what bindgen makes of the header, byte for byte, so a user needs
//! no libclang and the header cannot drift from the code.
//!
//! After changing the header: `TENON_BLESS=1 cargo test -p tenon-tests --test abi`.

use tenon_tests::bindings::generated;
use tenon_tests::golden::root;
use tenon_tests::programs::include;

#[test]
fn bindings_are_current() {
    let file = root().join("ffi/src/abi.rs");
    let fresh = generated(&include().join("tenon.h"));
    if std::env::var_os("TENON_BLESS").is_some() {
        std::fs::write(&file, &fresh).expect("ffi/src/abi.rs can be written");
    }
    let kept = std::fs::read_to_string(&file).expect("ffi/src/abi.rs is checked in");
    assert!(kept == fresh, "ffi/src/abi.rs is stale: set TENON_BLESS=1, run this, and commit it");
}
