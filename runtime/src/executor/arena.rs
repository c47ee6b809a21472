//! The arena, and whose turn it is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::tensor::Storage;

/// Memory in which executors of one training run take turns.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    pub(super) storage: Storage,
    /// The number of the last run in it.
    last: Arc<AtomicU64>,
}

impl Arena {
    /// An arena of `bytes`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Usage`] where there is no backend to ask for memory.
    pub(crate) fn new(bytes: usize, backends: &[Arc<dyn Backend>]) -> Result<Self> {
        let first = backends.first().ok_or_else(|| Error::Usage("no backend given".into()))?;
        let storage = Storage::zeroed(bytes, first.allocator())?;
        Ok(Self { storage, last: Arc::default() })
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        self.storage.len()
    }

    /// Begins a run and gives its number.
    pub(super) fn begin(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether what run `number` left is still there.
    pub(super) fn holds(&self, number: u64) -> bool {
        self.last.load(Ordering::Relaxed) == number
    }
}
