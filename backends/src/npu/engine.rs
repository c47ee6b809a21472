//! What a bridge must offer.

use tenon_runtime::Result;

use super::graph::Graph;

/// What an engine says of its accelerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The bridge's name, `nnapi` or `coreml`.
    pub bridge: &'static str,
    /// The accelerator, in words.
    pub name: String,
    /// What a compiled graph depends on: versions of system and driver.
    pub build: String,
    /// Feature level, as the [table](super::table) has it.
    pub level: u32,
}

/// An accelerator that compiles graphs.
pub trait Engine: Send + Sync {
    /// The accelerator.
    fn describe(&self) -> Description;

    /// Of each node, whether the accelerator itself runs it.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`].
    fn supported(&self, graph: &Graph) -> Result<Vec<bool>>;

    /// Which of its parts a compiled graph's operations prefer, in words, where the system tells.
    fn placement(&self, _: &Graph, _: &[u8; 32]) -> Option<String> {
        None
    }

    /// A graph, ready to run. `token` names it in the accelerator's own cache, if it has one.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`], [`tenon_runtime::Error::Unsupported`].
    fn compile(&self, graph: &Graph, token: &[u8; 32]) -> Result<Box<dyn Compiled>>;
}

/// A graph that an accelerator has compiled.
pub trait Compiled: Send {
    /// Runs it: bytes of the inputs, in the order and of the types of the graph's, to bytes of the
    /// outputs. All inputs are read before an output is written.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`]; outputs are then worth nothing.
    fn run(&mut self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<()>;
}
