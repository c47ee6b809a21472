//! The bridge to Android's Neural Networks API.
//!
//! | file | what |
//! |---|---|
//! | `nnapi.h`, `sys` | facts of the ABI, and what bindgen makes of them |
//! | `library` | the system's library, loaded at run time |
//! | [`model`] | a graph as operands and operations by number |
//! | `engine` | it is compiled and run |
//!
//! Environment:
//!
//! | variable | what it sets |
//! |---|---|
//! | `TENON_NNAPI_LIBRARY` | another library than the system's, for tests |
//! | `TENON_NNAPI_DEVICE` | the device, by its name; also the CPU's reference implementation |

mod engine;
mod library;
pub mod model;
#[rustfmt::skip]
pub mod sys;

use std::sync::Arc;

use tenon_runtime::Result;
use tenon_runtime::backend::Backend;

pub use engine::Nnapi;

use crate::npu::{Npu, Options, Target};

/// The backend over the device that the environment names, or the best there is.
///
/// # Errors
/// [`tenon_runtime::Error::Device`] where there is none.
pub fn open(cpu: Arc<dyn Backend>, options: Options) -> Result<Npu> {
    let name = std::env::var("TENON_NNAPI_DEVICE").ok();
    let engine = Nnapi::open(name.as_deref(), false)?;
    let target = Target::Nnapi(engine.level());
    Ok(Npu::new(Arc::new(engine), target, cpu, options))
}
