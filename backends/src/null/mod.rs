//! The null backend: supports everything, computes nothing, counts launches. Graph and memory
//! tests need no device.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenon_runtime::Result;
use tenon_runtime::backend::{Backend, Device, Memory, Part, Program, Signature};
use tenon_runtime::tensor::{Allocator, SystemAllocator};

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Null {
    launches: Arc<AtomicUsize>,
}

impl Null {
    /// How many launches its programs have been given.
    #[must_use]
    pub fn launches(&self) -> usize {
        self.launches.load(Ordering::Relaxed)
    }
}

impl Backend for Null {
    fn describe(&self) -> Device {
        Device {
            backend: "null",
            name: "computes nothing".to_owned(),
            level: "none".to_owned(),
            parallelism: 1,
        }
    }

    fn allocator(&self) -> &dyn Allocator {
        &SystemAllocator
    }

    fn supports(&self, _: Signature<'_>) -> bool {
        true
    }

    fn workspace(&self, _: Signature<'_>) -> usize {
        0
    }

    fn compile(&self, _: Part<'_>) -> Result<Box<dyn Program>> {
        Ok(Box::new(Counter(self.launches.clone())))
    }
}

struct Counter(Arc<AtomicUsize>);

impl Program for Counter {
    unsafe fn launch(&mut self, _: usize, _: &Memory) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
