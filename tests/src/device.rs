//! The Vulkan device that suites run on, where there is one; what does not run on it.

use tenon_backends::vulkan::{Options, Vulkan};
use tenon_runtime::Graph;
use tenon_runtime::backend::Launch;
use tenon_runtime::memory::Plan;

use crate::golden::report;

/// A device with the settings of the environment, changed. Without one the suite named is told so;
/// `TENON_EXPECT_VULKAN=1` makes that an error.
///
/// # Panics
/// For settings that say nothing; where a device was expected.
pub fn vulkan(suite: &str, change: impl FnOnce(&mut Options)) -> Option<Vulkan> {
    let mut options = Options::from_env().unwrap_or_else(|e| panic!("{e}"));
    change(&mut options);
    match Vulkan::new(&options) {
        Ok(vulkan) => Some(vulkan),
        Err(e) => {
            assert!(std::env::var_os("TENON_EXPECT_VULKAN").is_none(), "{e}");
            report(&format!("{suite}: no Vulkan device ({e})"));
            None
        }
    }
}

/// Ops of a plan that another backend than the first runs.
#[must_use]
pub fn elsewhere(graph: &Graph, plan: &Plan) -> Vec<&'static str> {
    let nodes = plan.nodes().iter();
    let other = nodes.filter(|planned| planned.backend != 0 && planned.launch != Launch::Alias);
    other.map(|planned| graph.nodes()[planned.node.index()].op.name()).collect()
}
