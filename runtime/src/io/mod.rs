//! Files: GGUF, safetensors, checkpoints.
