//! Sets of parameters as one vector of f32, each parameter after the other.

use super::{Workers, same_length, sums};
use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::tensor::{DType, Element, Tensor};

/// Whether a parameter is one of a low-rank adapter.
#[must_use]
pub fn is_adapter(name: &str) -> bool {
    [".lora_A.weight", ".lora_B.weight"].iter().any(|end| name.ends_with(end))
}

/// How many elements the parameters called `names` have.
///
/// # Errors
/// [`Error::NotFound`].
pub fn count<'a>(executor: &Executor, names: impl Iterator<Item = &'a str>) -> Result<usize> {
    names.map(|name| Ok(executor.tensor(name)?.desc().numel())).sum()
}

/// Copies parameters out, those in weight formats decoded.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Usage`] for another length, or integers.
pub fn read<'a>(
    executor: &Executor,
    names: impl Iterator<Item = &'a str> + Clone,
    mut data: &mut [f32],
) -> Result<()> {
    same_length("the vector", data.len(), count(executor, names.clone())?)?;
    for name in names.clone() {
        let dtype = executor.tensor(name)?.desc().dtype();
        if dtype.format().is_none() {
            return Err(Error::Usage(format!("`{name}` is {dtype}: read it by its name")));
        }
    }
    for name in names {
        let tensor = executor.tensor(name)?;
        let (part, rest) = data.split_at_mut(tensor.desc().numel());
        tensor.decode(part)?;
        data = rest;
    }
    Ok(())
}

/// Copies parameters in.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Usage`] for another length, or a parameter that is not f32 or not
/// to be written. Nothing is written then.
pub fn write<'a>(
    executor: &Executor,
    names: impl Iterator<Item = &'a str> + Clone,
    mut data: &[f32],
) -> Result<()> {
    same_length("the vector", data.len(), count(executor, names.clone())?)?;
    names.clone().try_for_each(|name| check_writable(name, executor.tensor(name)?))?;
    for name in names {
        let tensor = executor.tensor(name)?;
        let (part, rest) = data.split_at(tensor.desc().numel());
        tensor.storage().write(0, f32::bytes_of(part))?;
        data = rest;
    }
    Ok(())
}

/// `update = parameters - start`: what a client has learnt since the round's start.
///
/// # Errors
/// As [`read`].
pub fn difference<'a>(
    workers: &dyn Workers,
    executor: &Executor,
    names: impl Iterator<Item = &'a str> + Clone,
    start: &[f32],
    update: &mut [f32],
) -> Result<()> {
    same_length("the start", start.len(), update.len())?;
    read(executor, names, update)?;
    sums::accumulate(workers, -1.0, start, update)
}

/// `parameters += factor * update`.
///
/// # Errors
/// As [`write`].
pub fn add<'a>(
    workers: &dyn Workers,
    executor: &Executor,
    names: impl Iterator<Item = &'a str> + Clone,
    factor: f32,
    mut update: &[f32],
) -> Result<()> {
    same_length("the update", update.len(), count(executor, names.clone())?)?;
    names.clone().try_for_each(|name| check_writable(name, executor.tensor(name)?))?;
    for name in names {
        let tensor = executor.tensor(name)?;
        let n = tensor.desc().numel();
        let (part, rest) = update.split_at(n);
        // SAFETY: f32 in place, as many; nothing runs while the executor is borrowed.
        let values = unsafe {
            let bytes = tensor.storage().bytes_mut()?;
            std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), n)
        };
        sums::accumulate(workers, factor, part, values)?;
        update = rest;
    }
    Ok(())
}

fn check_writable(name: &str, tensor: &Tensor) -> Result<()> {
    let dtype = tensor.desc().dtype();
    if dtype != DType::F32 {
        let mend = "write it by its name in its own type, or a smaller set";
        return Err(Error::Usage(format!("`{name}` is {dtype}, not f32: {mend}")));
    }
    if !tensor.storage().is_writable() {
        let mend = "choose a set without it, or begin with a model without weights";
        return Err(Error::Usage(format!("`{name}` is mapped from a file: {mend}")));
    }
    Ok(())
}
