//! Llama-family graphs and LoRA, from GGUF or Hugging Face metadata.
