//! Files: GGUF, safetensors, checkpoints.

pub mod checkpoint;
