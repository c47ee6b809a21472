//! Files: GGUF, safetensors, checkpoints.

pub mod checkpoint;
#[cfg(test)]
mod folder;
pub mod gguf;
mod mapped;
pub mod safetensors;
pub(crate) mod spill;

pub use mapped::MappedTensor;
