//! Files: GGUF, safetensors, checkpoints.

pub mod checkpoint;
pub mod gguf;
mod mapped;
pub mod safetensors;

pub use mapped::MappedTensor;
