//! The C header as bindgen reads it.

use std::path::Path;

/// What stands above the generated lines.
const HEAD: &str = "\
//! The header's types and functions, as bindgen reads them. Generated: see tests/suites/abi.rs.
#![allow(missing_docs, non_camel_case_types, dead_code, unreachable_pub, clippy::all)]
";

/// What stands above those of NNAPI.
const LOADED_HEAD: &str = "\
//! Facts of the NNAPI ABI, as bindgen reads nnapi.h. Generated: see tests/suites/nnapi.rs.
#![allow(missing_docs, non_camel_case_types, non_snake_case, dead_code, unreachable_pub, clippy::all)]
#![allow(clippy::undocumented_unsafe_blocks, clippy::semicolon_if_nothing_returned)]
#![allow(unsafe_op_in_unsafe_fn, unused_qualifications)]
";

/// Rust's types and declarations of a header. Without layout tests: they hold the host's sizes, and
/// what is checked in serves 32-bit targets too.
///
/// # Panics
/// Where the header does not parse.
#[must_use]
pub fn generated(header: &Path) -> String {
    text(builder(header).allowlist_item("(tn|TN)_.*"), HEAD)
}

/// Rust's types of the header of NNAPI's facts, and a table of its functions for a library that is
/// loaded at run time, in which those that it lacks are absent.
///
/// # Panics
/// As [`generated`].
#[must_use]
pub fn loaded(header: &Path) -> String {
    let builder = builder(header)
        .allowlist_item("ANeuralNetworks.*|TYPE_.*|RESULT_.*|PREFER_.*|DEVICE_.*")
        .dynamic_library_name("Functions")
        .dynamic_link_require_all(false);
    // They ask what the ABI asks.
    let said = "    /// # Safety\n    /// As the ABI says.\n    pub unsafe fn ";
    text(builder, LOADED_HEAD).replace("    pub unsafe fn ", said)
}

fn text(builder: bindgen::Builder, head: &str) -> String {
    let bindings = builder.generate();
    let bindings =
        bindings.expect("the header parses; bindgen needs libclang (Debian: libclang-dev)");
    format!("{head}\n{bindings}")
}

fn builder(header: &Path) -> bindgen::Builder {
    // The oldest that knows the edition of this workspace.
    let target = bindgen::RustTarget::stable(85, 0).unwrap_or_else(|e| panic!("{e}"));
    bindgen::Builder::default()
        .header(header.to_string_lossy())
        .prepend_enum_name(false)
        .use_core()
        .generate_comments(false)
        .layout_tests(false)
        .derive_debug(false)
        .rust_target(target)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::Prettyplease)
        .disable_header_comment()
}

/// The functions that such a text declares, in order.
#[must_use]
pub fn functions(bindings: &str) -> Vec<String> {
    let names = bindings.lines().filter_map(|line| line.trim().strip_prefix("pub fn "));
    names.filter_map(|rest| Some(rest.split('(').next()?.to_owned())).collect()
}

/// The numbers that such a text names, each with its value.
#[must_use]
pub fn constants(bindings: &str) -> Vec<(String, String)> {
    let rows = bindings.lines().filter_map(|line| line.trim().strip_prefix("pub const "));
    // Their types are numbered in the order of enums, to which others may be added.
    rows.filter_map(|row| Some((row.split_once(':')?.0, row.split_once(" = ")?.1)))
        .map(|(name, value)| (name.to_owned(), value.trim_end_matches(';').to_owned()))
        .collect()
}

/// The source of a library that has these types and functions, and does nothing.
#[must_use]
pub fn stub(bindings: &str) -> String {
    const HEAD: &str = "\
#![no_std]
#[panic_handler]
fn panicked(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
";
    let mut blocks = bindings.split("unsafe extern \"C\" {\n    pub fn ");
    // Where the library has them, so that types have the same names.
    let mut out = format!("{HEAD}pub mod abi {{\n{}", blocks.next().unwrap_or_default());
    for block in blocks {
        let (declared, rest) = block.split_once(";\n}\n").unwrap_or((block, ""));
        out += "#[unsafe(no_mangle)]\npub unsafe extern \"C\" fn ";
        out += &format!("{declared} {{\n    loop {{}}\n}}\n{rest}");
    }
    out + "}\n"
}
