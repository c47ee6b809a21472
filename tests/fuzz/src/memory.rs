//! Memory for tensors that ends, as a device's does.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenon_runtime::tensor::{Allocator, SystemAllocator};

/// Most bytes of all tensors together.
pub const MOST: usize = 64 << 20;

/// The system's memory up to [`MOST`].
#[derive(Clone, Default)]
pub struct Bounded(Arc<AtomicUsize>);

impl Allocator for Bounded {
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        let taken = self.0.fetch_add(bytes, Ordering::Relaxed);
        let memory = match taken.checked_add(bytes) {
            Some(all) if all <= MOST => SystemAllocator.allocate(bytes),
            _ => None,
        };
        if memory.is_none() {
            self.0.fetch_sub(bytes, Ordering::Relaxed);
        }
        memory
    }

    unsafe fn release(&self, memory: NonNull<u8>, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
        // SAFETY: the caller's contract: it was taken from there.
        unsafe { SystemAllocator.release(memory, bytes) }
    }

    fn handle(&self) -> Arc<dyn Allocator> {
        Arc::new(self.clone())
    }
}
