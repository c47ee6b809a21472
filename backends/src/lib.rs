//! Tenon's devices behind one trait, [`tenon_runtime::backend::Backend`].
//!
//! | backend | what it is |
//! |---|---|
//! | [`cpu`] | the kernels over a thread pool that shares its cores well |
//! | [`null`] | plans and counts, computes nothing |
//! | [`vulkan`] | graphics cards, and whatever else has a Vulkan driver |
//!
//! To add a backend: a folder here, one line below, one feature. The conformance suite runs over
//! [`found`] by itself.

#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(feature = "null")]
pub mod null;
#[cfg(feature = "vulkan")]
pub mod vulkan;

use std::sync::Arc;

use tenon_runtime::Result;
use tenon_runtime::backend::Backend;

/// The backends to run on, in order of preference: the CPU, and before it the one that the variable
/// `TENON_BACKEND` names.
///
/// # Errors
/// What a backend says of its settings, such as an unknown `TENON_ISA`, or of a device that is not
/// there.
#[allow(clippy::vec_init_then_push, reason = "features decide what is pushed")]
pub fn all() -> Result<Vec<Arc<dyn Backend>>> {
    let mut backends: Vec<Arc<dyn Backend>> = Vec::new();
    #[cfg(feature = "vulkan")]
    if std::env::var("TENON_BACKEND").is_ok_and(|wanted| wanted == "vulkan") {
        backends.push(Arc::new(vulkan::Vulkan::new(&vulkan::Options::from_env()?)?));
    }
    #[cfg(feature = "cpu")]
    backends.push(Arc::new(cpu::Cpu::new(cpu::Options::default())?));
    Ok(backends)
}
