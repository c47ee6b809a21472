//! Double-buffered inputs: any thread writes the next step's while a step runs.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::graph::{Graph, Source, Value};
use crate::tensor::{Allocator, Storage};

/// A second buffer of each input that a caller writes before a step.
///
/// What is written there becomes the input when [`super::Trainer::take_staged`] copies it: inputs stay
/// where they are, as devices and whoever shares them know them.
#[derive(Debug)]
pub struct Staging {
    inputs: Vec<Staged>,
}

#[derive(Debug)]
struct Staged {
    name: String,
    buffer: Mutex<Buffer>,
}

#[derive(Debug)]
struct Buffer {
    storage: Storage,
    /// Whether something waits there to be taken.
    is_full: bool,
}

impl Staging {
    /// Bytes of the second buffers of a step's graph.
    pub(super) fn bytes(graph: &Graph) -> usize {
        inputs(graph).map(|(_, value)| value.desc.bytes()).fold(0, usize::saturating_add)
    }

    /// The second buffers of a step's graph.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn new(graph: &Graph, allocator: &dyn Allocator) -> Result<Self> {
        let staged = |(name, value): (&str, &Value)| {
            let storage = Storage::zeroed(value.desc.bytes(), allocator)?;
            let buffer = Mutex::new(Buffer { storage, is_full: false });
            Ok(Staged { name: name.to_owned(), buffer })
        };
        Ok(Self { inputs: inputs(graph).map(staged).collect::<Result<_>>()? })
    }

    /// Writes the whole of an input's second buffer; what waits there already is lost.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Usage`] where the number of bytes is another.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let known = || self.inputs.iter().map(|input| input.name.clone()).collect();
        let input = self.inputs.iter().find(|input| input.name == name);
        let input = input.ok_or_else(|| Error::NotFound {
            kind: "input that can be staged",
            name: name.to_owned(),
            known: known(),
        })?;
        let mut buffer = input.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.storage.len() != bytes.len() {
            let (needed, given) = (buffer.storage.len(), bytes.len());
            return Err(Error::Usage(format!("`{name}` takes {needed} bytes, not {given}")));
        }
        buffer.storage.write(0, bytes)?;
        buffer.is_full = true;
        Ok(())
    }

    /// Copies what waits to an executor's inputs, and tells their names.
    ///
    /// # Errors
    /// [`Error::Usage`] where nothing waits.
    pub(super) fn take(&self, executor: &Executor, mut taken: impl FnMut(&str)) -> Result<()> {
        let mut any = false;
        for Staged { name, buffer } in &self.inputs {
            let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::take(&mut buffer.is_full) {
                continue;
            }
            // SAFETY: the lock keeps writers out.
            executor.writable(name)?.storage().write(0, unsafe { buffer.storage.bytes()? })?;
            taken(name);
            any = true;
        }
        let why = "nothing is staged: stage the inputs of the step first";
        if any { Ok(()) } else { Err(Error::Usage(why.into())) }
    }
}

/// What a caller writes before a step: neither what a trainer writes by itself, nor gradients that
/// come back in the midst of one.
pub(super) fn inputs(graph: &Graph) -> impl Iterator<Item = (&str, &Value)> {
    let returned: Vec<_> = graph.sent().iter().filter_map(|sent| sent.gradient).collect();
    graph.iter_values().filter_map(move |(id, value)| {
        let name = value.name.as_deref().filter(|name| !name.starts_with("train."))?;
        let is_callers = matches!(value.source, Source::Input) && !returned.contains(&id);
        is_callers.then_some((name, value))
    })
}
