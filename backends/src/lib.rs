//! Tenon's devices behind one trait, [`tenon_runtime::backend::Backend`].
//!
//! | backend | what it is |
//! |---|---|
//! | [`cpu`] | the kernels over a thread pool that shares its cores well |
//! | [`null`] | plans and counts, computes nothing |
//!
//! To add a backend: a folder here, one line below, one feature. The conformance suite runs over
//! [`all`] by itself.

#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(feature = "null")]
pub mod null;

use std::sync::Arc;

use tenon_runtime::Result;
use tenon_runtime::backend::Backend;

/// Every backend of this build that finds its device here, in order of preference.
///
/// # Errors
/// What a backend says of its settings, such as an unknown `TENON_ISA`.
pub fn all() -> Result<Vec<Arc<dyn Backend>>> {
    Ok(vec![
        #[cfg(feature = "cpu")]
        Arc::new(cpu::Cpu::new(cpu::Options::default())?),
    ])
}
