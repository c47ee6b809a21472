//! The C ABI of Tenon.
//!
//! `include/tenon.h` leads: [`abi`] is generated from it, the functions here implement it, and
//! [`signatures`] makes drift a compile error. This crate holds no logic: it converts, checks and
//! calls. Every function runs inside [`status::guard`], so no panic and no error crosses without a
//! status, and where there is a context, a message.
//!
//! Functions carry the header's documentation, and what they ask of their pointers is what the
//! header says of them: that is "the header's contract" in the comments on safety. Rust programs that
//! want the C ABI call them through [`abi`] too.

#[rustfmt::skip]
pub mod abi;
mod context;
mod convert;
mod dlpack;
mod exchange;
mod graph;
mod handle;
mod model;
mod options;
mod parameters;
mod rounds;
mod session;
mod signatures;
mod status;
mod structs;
mod training;
