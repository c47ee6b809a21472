//! What federated clients and their server exchange: parameters as one vector, differences of such
//! vectors, and what they travel as.
//!
//! | module | what it does |
//! |---|---|
//! | [`parameters`] | sets of a session's parameters as one vector of f32 |
//! | [`sums`] | weighted sums and means of vectors, in place |
//! | [`select`] | the elements of largest magnitude, exactly |
//! | [`message`] | a vector as bytes: layout, and its check |
//! | [`compress`] | vectors to messages with error feedback, messages to sums |
//! | [`secure`] | fixed point, masks that cancel, modular sums |
//! | [`submodel`] | a window of every parameter, taken out and added back |

pub mod compress;
mod indices;
pub mod message;
pub mod parameters;
pub mod secure;
pub mod select;
pub mod submodel;
pub mod sums;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use tenon_kernels::Isa;

use crate::error::{Error, Result};

/// Threads to work on vectors with, and their instruction set.
pub trait Workers: Sync {
    /// The instruction set.
    fn isa(&self) -> Isa;
    /// Calls `body` once for every number below `tasks`, on any of the threads.
    fn run(&self, tasks: usize, body: &(dyn Fn(usize) + Sync));
}

/// The calling thread alone.
impl Workers for Isa {
    fn isa(&self) -> Isa {
        *self
    }

    fn run(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(body);
    }
}

/// Elements in a task, a multiple of a block of codes: by shape alone, and long enough that claiming
/// one costs little.
const PART: usize = 1 << 16;

/// Runs `body` on every part, by the workers' threads.
fn each<P: Send>(workers: &dyn Workers, parts: impl Iterator<Item = P>, body: impl Fn(P) + Sync) {
    let parts: Vec<Mutex<Option<P>>> = parts.map(|part| Mutex::new(Some(part))).collect();
    workers.run(parts.len(), &|task| {
        let part = parts[task].lock().unwrap_or_else(PoisonError::into_inner).take();
        part.into_iter().for_each(&body);
    });
}

/// Refuses vectors of different lengths.
fn same_length(what: &str, len: usize, expected: usize) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(Error::Usage(format!("{what} has {len} elements where {expected} are needed")))
}

/// `n` defaults, or the error that there is no memory for them.
fn room<T: Clone + Default>(n: usize) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let bytes = n.saturating_mul(size_of::<T>());
    all.try_reserve_exact(n).map_err(|_| Error::OutOfMemory(bytes))?;
    all.resize(n, T::default());
    Ok(all)
}
