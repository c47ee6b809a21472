//! Core ML: graphs for the accelerators of Apple's devices.
//!
//! A graph becomes ([`emit`]) an ML program ([`program`], in the messages of [`proto`]) with its constants
//! in a file of their own ([`weights`]), both in a folder ([`package`]).
//! Quantized weights stay codes of four or eight bits ([`codes`]). All of that is built and tested on any
//! machine; compiling and running a package needs an Apple system.

pub mod codes;
pub mod emit;
#[cfg(target_vendor = "apple")]
pub mod engine;
pub mod package;
pub mod program;
pub mod proto;
pub mod weights;
