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

use std::sync::Arc;

use tenon_runtime::Result;
use tenon_runtime::backend::Backend;

use crate::npu;

/// The backend over the system's Core ML.
///
/// # Errors
/// [`tenon_runtime::Error::Device`] on systems that are not Apple's, or too old.
#[cfg(target_vendor = "apple")]
pub fn open(cpu: Arc<dyn Backend>, options: npu::Options) -> Result<Arc<dyn Backend>> {
    let folder = crate::cache::folder().unwrap_or_else(std::env::temp_dir).join("coreml");
    let engine = engine::CoreMl::new(engine::Options { folder, ..engine::Options::default() })?;
    let target = npu::Target::CoreMl(engine::CoreMl::opset().version());
    Ok(Arc::new(npu::Npu::new(Arc::new(engine), target, cpu, options)))
}

/// The backend over the system's Core ML.
///
/// # Errors
/// [`tenon_runtime::Error::Device`]: there is none here.
#[cfg(not(target_vendor = "apple"))]
pub fn open(_: Arc<dyn Backend>, _: npu::Options) -> Result<Arc<dyn Backend>> {
    let why = "only Apple's systems have it".to_owned();
    Err(tenon_runtime::Error::Device { backend: "coreml", why })
}
