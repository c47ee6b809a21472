//! Graphs.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::ops::Attr;
use tenon_runtime::tensor::{Storage, Tensor};
use tenon_runtime::{Result, TensorDesc};

use crate::abi;
use crate::context::{self, Context};
use crate::convert::{self, desc, slice, slice_mut, string, unique};
use crate::handle::{self, Handle};
use crate::status::argument;
use crate::structs::array;

/// A handle of a graph, with what its parameters start as.
pub(crate) struct GraphHandle {
    pub(crate) context: Arc<Context>,
    pub(crate) graph: Graph,
    pub(crate) tensors: HashMap<String, Tensor>,
    text: CString,
}

impl Handle for GraphHandle {
    type Opaque = abi::tn_graph;
    type Beside = ();
    const NAME: &'static str = "graph";

    fn context(&self) -> &Arc<Context> {
        &self.context
    }

    fn beside(&self) {}
}

/// Runs `body` on the graph behind a handle.
///
/// # Safety
/// As [`handle::with`].
unsafe fn with(
    graph: *mut abi::tn_graph,
    body: impl FnOnce(&mut GraphHandle) -> Result<()>,
) -> abi::tn_status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(graph, body) }
}

/// A value of the graph from its number.
pub(crate) fn value(graph: &Graph, number: abi::tn_value) -> Result<ValueId> {
    graph
        .value_id(number as usize)
        .ok_or_else(|| argument(format!("the graph has no value {number}")))
}

/// The number that the header's functions know a value by.
pub(crate) fn number(value: ValueId) -> abi::tn_value {
    // A graph holds fewer values than u32 can count.
    value.index() as abi::tn_value
}

/// Content given by the caller, copied.
///
/// # Safety
/// As [`slice`].
unsafe fn content(
    context: &Context,
    desc: &TensorDesc,
    data: *const c_void,
    size: usize,
) -> Result<Tensor> {
    if data.is_null() {
        return Tensor::zeros(desc.clone(), context.allocator());
    }
    if size != desc.bytes() {
        return Err(argument(format!("{desc} takes {} bytes, not {size}", desc.bytes())));
    }
    // SAFETY: the caller's contract.
    let bytes = unsafe { slice(data.cast::<u8>(), size, "data")? };
    Tensor::new(desc.clone(), Storage::copied(bytes, context.allocator())?)
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_create(
    context: *mut abi::tn_context,
    graph: *mut *mut abi::tn_graph,
) -> abi::tn_status {
    let make = |context: &Arc<Context>| {
        let (context, graph) = (context.clone(), Graph::new());
        Ok(GraphHandle { context, graph, tensors: HashMap::new(), text: CString::default() })
    };
    // SAFETY: the header's contract.
    unsafe { context::with(context, |context| handle::give(graph, || make(context))) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_destroy(graph: *mut abi::tn_graph) {
    // SAFETY: the header's contract.
    unsafe { handle::destroy::<GraphHandle>(graph) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_input(
    graph: *mut abi::tn_graph,
    name: *const c_char,
    dtype: abi::tn_dtype,
    dims: *const i64,
    rank: usize,
    out: *mut abi::tn_value,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let (name, out) = (string(name, "name")?, unique(out, "value")?);
            *out = number(handle.graph.input(name, desc(dtype, dims, rank)?)?);
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_parameter(
    graph: *mut abi::tn_graph,
    name: *const c_char,
    dtype: abi::tn_dtype,
    dims: *const i64,
    rank: usize,
    data: *const c_void,
    size: usize,
    trainable: i32,
    out: *mut abi::tn_value,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let (name, out) = (string(name, "name")?, unique(out, "value")?);
            let desc = desc(dtype, dims, rank)?;
            let tensor = content(&handle.context, &desc, data, size)?;
            *out = number(handle.graph.parameter(name, desc, trainable != 0)?);
            handle.tensors.insert(name.to_owned(), tensor);
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_state(
    graph: *mut abi::tn_graph,
    name: *const c_char,
    dtype: abi::tn_dtype,
    dims: *const i64,
    rank: usize,
    out: *mut abi::tn_value,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let (name, out) = (string(name, "name")?, unique(out, "value")?);
            *out = number(handle.graph.state(name, desc(dtype, dims, rank)?)?);
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_constant(
    graph: *mut abi::tn_graph,
    dtype: abi::tn_dtype,
    dims: *const i64,
    rank: usize,
    data: *const c_void,
    size: usize,
    out: *mut abi::tn_value,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let out = unique(out, "value")?;
            let desc = desc(dtype, dims, rank)?;
            if data.is_null() && desc.bytes() > 0 {
                return Err(argument("`data` is NULL"));
            }
            let tensor = content(&handle.context, &desc, data, size)?;
            *out = number(handle.graph.constant(tensor));
            Ok(())
        })
    }
}

/// An attribute's name and value.
///
/// # Safety
/// The header's contract of `tn_attr`.
unsafe fn attr<'a>(given: &abi::tn_attr) -> Result<(&'a str, Attr)> {
    // SAFETY: the caller's contract.
    let name = unsafe { string(given.name, "attribute name")? };
    let value = match u32::try_from(given.kind).unwrap_or(u32::MAX) {
        abi::TN_ATTR_INT => Attr::Int(given.integer),
        abi::TN_ATTR_FLOAT => Attr::Float(given.number),
        abi::TN_ATTR_BOOL => Attr::Bool(given.integer != 0),
        // SAFETY: the caller's contract.
        abi::TN_ATTR_STRING => Attr::Str(unsafe { string(given.string, name)? }.to_owned()),
        abi::TN_ATTR_INTS => {
            // SAFETY: the caller's contract.
            let values = unsafe { slice(given.integers, given.integer_count, name)? };
            Attr::Ints(values.to_vec())
        }
        _ => return Err(argument(format!("attribute `{name}` has kind {}", given.kind))),
    };
    Ok((name, value))
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_add(
    graph: *mut abi::tn_graph,
    op: *const c_char,
    attrs: *const abi::tn_attr,
    attr_count: usize,
    inputs: *const abi::tn_value,
    input_count: usize,
    outputs: *mut abi::tn_value,
    output_capacity: usize,
    output_count: *mut usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let op = string(op, "op")?;
            let attrs = array(attrs, attr_count)?;
            let attrs = attrs.iter().map(|a| attr(a)).collect::<Result<Vec<_>>>()?;
            let inputs = slice(inputs, input_count, "inputs")?
                .iter()
                .map(|&v| value(&handle.graph, v))
                .collect::<Result<Vec<_>>>()?;
            let outputs = slice_mut(outputs, output_capacity, "outputs")?;
            let made = handle.graph.call(op, &attrs, &inputs)?;
            for (to, &value) in outputs.iter_mut().zip(&made) {
                *to = number(value);
            }
            if let Some(count) = output_count.as_mut() {
                *count = made.len();
            }
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_send(
    graph: *mut abi::tn_graph,
    name: *const c_char,
    dtype: abi::tn_dtype,
    sent: abi::tn_value,
    trains: i32,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let sent = value(&handle.graph, sent)?;
            handle.graph.send(string(name, "name")?, sent, convert::dtype(dtype)?, trains != 0)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_receive(
    graph: *mut abi::tn_graph,
    name: *const c_char,
    dtype: abi::tn_dtype,
    dims: *const i64,
    rank: usize,
    trains: i32,
    out: *mut abi::tn_value,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let (name, out) = (string(name, "name")?, unique(out, "value")?);
            *out = number(handle.graph.receive(name, desc(dtype, dims, rank)?, trains != 0)?);
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_output(
    graph: *mut abi::tn_graph,
    name: *const c_char,
    number: abi::tn_value,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let name = string(name, "name")?;
            let value = value(&handle.graph, number)?;
            handle.graph.set_output(name, value)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_set_trainable(
    graph: *mut abi::tn_graph,
    parameter: abi::tn_value,
    trainable: i32,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let parameter = value(&handle.graph, parameter)?;
            handle.graph.set_trainable(parameter, trainable != 0)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_shape(
    graph: *mut abi::tn_graph,
    number: abi::tn_value,
    dims: *mut i64,
    rank: *mut usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let rank = unique(rank, "rank")?;
            let dims = slice_mut(dims, abi::TN_MAX_RANK as usize, "dims")?;
            let shape = handle.graph.desc(value(&handle.graph, number)?).shape();
            for (to, &dim) in dims.iter_mut().zip(shape.iter()) {
                // Shapes fit isize.
                *to = dim as i64;
            }
            *rank = shape.len();
            Ok(())
        })
    }
}

/// Hands out a text that the graph keeps.
///
/// # Safety
/// The header's contract.
unsafe fn text(
    graph: *mut abi::tn_graph,
    out: *mut *const c_char,
    make: impl FnOnce(&Graph) -> String,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle| {
            let out = unique(out, "text")?;
            handle.text = CString::new(make(&handle.graph)).unwrap_or_default();
            *out = handle.text.as_ptr();
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_dump(
    graph: *mut abi::tn_graph,
    out: *mut *const c_char,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe { text(graph, out, Graph::dump) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_graphviz(
    graph: *mut abi::tn_graph,
    out: *mut *const c_char,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe { text(graph, out, Graph::graphviz) }
}
