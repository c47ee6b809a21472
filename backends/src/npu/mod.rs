//! What the bridges to phone accelerators share.
//!
//! | module | holds |
//! |---|---|
//! | [`op`] | operations and types of the graph that accelerators get |
//! | [`graph`] | that graph |
//! | [`table`] | what each operation is called by each accelerator, and since when |
//! | [`lower`] | launches as such graphs, backward classes too |
//! | [`evaluate`] | such a graph computed by simple loops: the judge |
//! | [`transform`] | graphs in half precision |
//! | [`codes`] | forward products in codes of 8 bits |
//! | [`engine`] | what a bridge must offer |
//! | [`reference`](mod@reference) | an engine that evaluates, for tests |
//! | `partition` | which steps go to the accelerator, what enters and leaves them |
//! | `program` | they run, or the CPU takes over |
//! | [`trust`] | what was found of a graph before |
//! | `backend` | all of it as a backend |

mod backend;
pub mod codes;
pub mod engine;
pub mod evaluate;
pub mod graph;
pub mod lower;
pub mod op;
mod partition;
mod program;
pub mod reference;
pub mod table;
pub mod transform;
pub mod trust;

use backend::Shared;
pub use backend::{Compute, Npu, Options};
pub use partition::Worth;

pub use engine::{Compiled, Description, Engine};
pub use graph::{Graph, Node, Source, Value, ValueId};
pub use op::{Affine, DType, Op, Type, Window};
pub use table::Target;
