//! What the bridges to phone accelerators share.
//!
//! | module | holds |
//! |---|---|
//! | [`op`] | operations and types of the graph that accelerators get |
//! | [`graph`] | that graph |
//! | [`table`] | what each operation is called by each accelerator, and since when |
//! | [`engine`] | what a bridge must offer |

pub mod engine;
pub mod graph;
pub mod op;
pub mod table;

pub use engine::{Compiled, Description, Engine};
pub use graph::{Graph, Node, Source, Value, ValueId};
pub use op::{Affine, DType, Op, Type, Window};
pub use table::Target;
