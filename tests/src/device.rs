//! The Vulkan device that suites run on, where there is one; what does not run on it.

use std::sync::Arc;

use tenon_backends::cpu::{self, Cpu};
use tenon_backends::vulkan::{Options, Vulkan};
use tenon_runtime::Graph;
use tenon_runtime::backend::{Backend, Launch};
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

/// A device, and the CPU for what does not run on it.
///
/// # Panics
/// Where there is no CPU backend.
#[must_use]
pub fn with_cpu(vulkan: &Vulkan) -> Vec<Arc<dyn Backend>> {
    let cpu = Cpu::new(cpu::Options::default()).expect("the CPU");
    vec![Arc::new(vulkan.clone()), Arc::new(cpu)]
}

/// Ops of a plan that another backend than the first runs.
#[must_use]
pub fn elsewhere(graph: &Graph, plan: &Plan) -> Vec<&'static str> {
    let nodes = plan.nodes().iter();
    let other = nodes.filter(|planned| planned.backend != 0 && planned.launch != Launch::Alias);
    other.map(|planned| graph.nodes()[planned.node.index()].op.name()).collect()
}
