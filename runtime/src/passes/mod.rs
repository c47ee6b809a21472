//! Rewrites of the graph, in one ordered pipeline.
//!
//! To add a pass: `passes/<pass>.rs`, one row in `PIPELINE`, one snapshot test.

mod fold;
mod fuse_activation;
mod fuse_elementwise;
mod fuse_epilogue;
mod fuse_loss;
mod fuse_norm;
mod fuse_scatter;
mod layout;
mod prune;
mod rewrite;
mod share;

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
pub const PIPELINE: &[Pass] = &[
    Pass { name: "fold", run: fold::run },
    Pass { name: "share", run: share::run },
    Pass { name: "layout", run: layout::run },
    // Rules look for results with one reader: the dead ones must be gone.
    Pass { name: "prune", run: prune::run },
    Pass { name: "fuse_activation", run: fuse_activation::run },
    Pass { name: "fuse_epilogue", run: fuse_epilogue::run },
    Pass { name: "fuse_norm", run: fuse_norm::run },
    Pass { name: "fuse_loss", run: fuse_loss::run },
    Pass { name: "fuse_scatter", run: fuse_scatter::run },
    Pass { name: "prune", run: prune::run },
    // Last, since a program of several operations means nothing to the others.
    Pass { name: "fuse_elementwise", run: fuse_elementwise::run },
];

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
