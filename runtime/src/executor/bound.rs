//! What a graph's values are bound to before it runs.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::graph::{Graph, Source, Value, ValueId};
use crate::tensor::{Allocator, Tensor};

/// The tensor of each value that no node makes: of a constant its own, of any other the one `given` by
/// its name, or zeros.
pub(super) fn bound(
    graph: &Graph,
    given: &HashMap<String, Tensor>,
    allocator: &dyn Allocator,
) -> Result<Vec<(ValueId, Tensor)>> {
    let is_bound = |value: &Value| !matches!(value.source, Source::Node { .. });
    let tensor_of = |value: &Value| match &value.source {
        Source::Constant(tensor) => Ok(Some(Tensor::clone(tensor))),
        _ => fitting(value, given),
    };
    let values = graph.iter_values().filter(|(_, value)| is_bound(value));
    let tensors = values.map(|(id, value)| Ok((id, value, tensor_of(value)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let missing = tensors.iter().filter(|(.., tensor)| tensor.is_none());
    let missing = missing.map(|(_, value, _)| value.desc.clone()).collect();
    let mut zeros = Tensor::zeros_together(missing, allocator)?;
    let tensors = tensors.into_iter();
    Ok(tensors.filter_map(|(id, _, tensor)| Some((id, tensor.or_else(|| zeros.next())?))).collect())
}

/// The tensor given by the value's name.
fn fitting(value: &Value, given: &HashMap<String, Tensor>) -> Result<Option<Tensor>> {
    let name = value.name.as_deref().unwrap_or_default();
    match given.get(name) {
        Some(tensor) if *tensor.desc() != value.desc => Err(Error::Tensor(format!(
            "`{name}` is {} in the graph, but the tensor given is {}",
            value.desc,
            tensor.desc()
        ))),
        tensor => Ok(tensor.cloned()),
    }
}
