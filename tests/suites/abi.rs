//! The Rust side of the C ABI is what bindgen makes of the header, byte for byte, so a user needs
//! no libclang and the header cannot drift from the code.
//!
//! After changing the header: `TENON_BLESS=1 cargo test -p tenon-tests --test abi`.

use std::path::Path;

use tenon_tests::golden::root;

/// What stands above the generated lines.
const HEAD: &str = "\
//! The header's types and functions, as bindgen reads them. Generated: see tests/suites/abi.rs.
#![allow(missing_docs, non_camel_case_types, dead_code, unreachable_pub, clippy::all)]
";

/// Without layout tests: they hold the host's sizes, and this file serves 32-bit targets too.
fn generated(header: &Path) -> String {
    // The oldest that knows the edition of this workspace.
    let target = bindgen::RustTarget::stable(85, 0).unwrap_or_else(|e| panic!("{e}"));
    let bindings = bindgen::Builder::default()
        .header(header.to_string_lossy())
        .allowlist_item("(tn|TN)_.*")
        .prepend_enum_name(false)
        .use_core()
        .generate_comments(false)
        .layout_tests(false)
        .derive_debug(false)
        .rust_target(target)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::Prettyplease)
        .disable_header_comment()
        .generate()
        .expect("the header parses; bindgen needs libclang (Debian: libclang-dev)");
    format!("{HEAD}\n{bindings}")
}

#[test]
fn bindings_are_current() {
    let file = root().join("ffi/src/abi.rs");
    let fresh = generated(&root().join("ffi/include/tenon.h"));
    if std::env::var_os("TENON_BLESS").is_some() {
        std::fs::write(&file, &fresh).expect("ffi/src/abi.rs can be written");
    }
    let kept = std::fs::read_to_string(&file).expect("ffi/src/abi.rs is checked in");
    assert!(kept == fresh, "ffi/src/abi.rs is stale: set TENON_BLESS=1, run this, and commit it");
}
