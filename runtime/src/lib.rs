//! Tenon's runtime: from a graph to a training step whose memory is known before it runs.
//!
//! Data flows one way, and so do the modules:
//!
//! | module | what it does |
//! |---|---|
//! | [`error`] | one typed error, with op, operand and shapes |
//! | [`tensor`] | element types, checked shapes, storage |
//! | [`ops`] | one op one file: shapes, gradient, cost, launch class, cases; the `ops!` table |
//! | [`graph`] | values and nodes in static single assignment, builder, verifier, dumps |
//! | [`autodiff`] | adds the gradient of a scalar toward what trains |
//! | [`passes`] | rewrites the graph: fold, share, prune, fuse |
//! | [`memory`] | orders nodes and places every buffer: the plan is the peak |
//! | [`executor`] | binds a planned graph to backends and runs it without allocating |
//! | [`train`] | optimizer, schedules, clipping, accumulation over an executor |
//! | [`federated`] | what clients and servers exchange: sums, messages, masks, sub-models |
//! | [`models`] | llama-family graphs and LoRA, from GGUF or Hugging Face metadata |
//! | [`io`] | GGUF, safetensors, checkpoints |
//! | [`check`] | the ops' cases on a device: forward against a reference, gradients by differences |
//! | [`backend`] | what a device must offer |

pub mod autodiff;
pub mod backend;
pub mod check;
pub mod error;
pub mod executor;
pub mod federated;
pub mod graph;
pub mod io;
pub mod memory;
pub mod models;
pub mod ops;
pub mod passes;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
pub use graph::{Graph, NodeId, ValueId};
pub use tensor::{DType, Shape, Tensor, TensorDesc};
