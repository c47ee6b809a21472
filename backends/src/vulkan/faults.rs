//! Failures on demand, for tests: a driver's are rare and cannot be asked for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::tier::Tiers;

/// Which calls of a device fail.
#[derive(Debug, Default)]
pub struct Faults {
    /// Of the allocations of memory: out of memory.
    pub allocations: Nth,
    /// Of the submits: the device is lost.
    pub submits: Nth,
    /// Whether barriers between dispatches are left out, for validation layers to find.
    pub barriers: AtomicBool,
    /// Whether the search for indices out of range does nothing.
    pub searches: AtomicBool,
    /// Of which tiers shaders do nothing.
    pub idle: Mutex<Tiers>,
    /// Whether dispatches that compute `erf`, alone or in a chain, do nothing.
    pub erf: AtomicBool,
}

/// The one call of many that fails.
#[derive(Debug, Default)]
pub struct Nth {
    calls: AtomicUsize,
    fails: AtomicUsize,
}

impl Nth {
    /// Calls so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Lets the `n`-th call from now on fail, from 1; with 0, none.
    pub fn fail(&self, n: usize) {
        self.fails.store(self.calls() + n, Ordering::Relaxed);
    }

    /// Counts a call, and says whether it is the one.
    pub(super) fn strikes(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.fails.load(Ordering::Relaxed)
    }
}
