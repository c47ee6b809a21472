//! Rewrites of the graph, in one ordered pipeline.
//!
//! To add a pass: `passes/<pass>.rs`, one row in `PIPELINE`, one snapshot test.

mod fuse_elementwise;

use crate::error::Result;
use crate::graph::Graph;

/// A rewrite that keeps what the graph computes.
pub struct Pass {
    /// Its name.
    pub name: &'static str,
    /// The rewrite.
    pub run: fn(&mut Graph) -> Result<()>,
}

/// All passes in the order they run.
pub const PIPELINE: &[Pass] = &[Pass { name: "fuse_elementwise", run: fuse_elementwise::run }];

/// Runs the pipeline, verifying the graph after each pass.
///
/// # Errors
/// [`crate::Error::Graph`] where a pass broke a rule, which is a bug in the pass.
pub fn optimize(graph: &mut Graph) -> Result<()> {
    for pass in PIPELINE {
        (pass.run)(graph)?;
        graph.verify()?;
    }
    Ok(())
}
