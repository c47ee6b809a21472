//! Llama-family models: llama, SmolLM2, SmolLM3, Mistral, Qwen2, Qwen3.
//!
//! A model is its configuration and its weights under Hugging Face's names, from a GGUF file
//! (memory-mapped, quantized as it is) or a Hugging Face folder. [`Model::graph`] builds the graph
//! of a training step: which weights train, LoRA adapters, batch and sequence length.

mod config;
mod llama;
mod load;
mod lora;

pub use config::{ModelConfig, RopeLayout};
pub use llama::{GraphOptions, ModelGraph, Trains};
pub use load::Model;
pub use lora::{Lora, PROJECTIONS};
