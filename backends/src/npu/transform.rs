//! Changes of whole graphs.

use tenon_runtime::Result;

use super::evaluate::{Array, Elements};
use super::graph::{Graph, Source, ValueId};
use super::op::{DType, Op, Type};

/// The graph in half precision: inputs, constants, results.
///
/// # Errors
/// As [`Graph::add`].
pub fn half(graph: &Graph) -> Result<Graph> {
    let halved = |ty: &Type| match ty.dtype {
        DType::F32 => Type::new(DType::F16, &ty.shape),
        _ => ty.clone(),
    };
    let mut made = Graph::default();
    let mut new = vec![ValueId(0); graph.values().len()];
    for &input in graph.inputs() {
        new[input.index()] = made.input(halved(graph.ty(input)));
    }
    for (i, value) in graph.values().iter().enumerate() {
        if let Source::Const(bytes) = &value.source {
            let array = Array::from_bytes(&value.ty, bytes)?;
            let (ty, elements) = (halved(&value.ty), clamped(array.elements));
            let bytes = Array { ty: ty.clone(), elements }.to_bytes();
            new[i] = made.constant(ty, bytes)?;
        }
    }
    for node in graph.nodes() {
        let op = match &node.op {
            Op::Cast(DType::F32) => Op::Cast(DType::F16),
            op => op.clone(),
        };
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| new[v.index()]).collect();
        new[node.output.index()] = made.add(op, &inputs)?;
    }
    for output in graph.outputs() {
        made.output(new[output.index()]);
    }
    Ok(made)
}

/// What hides keys is far below what half precision can say.
fn clamped(elements: Elements) -> Elements {
    const MOST: f32 = 65504.0;
    match elements {
        Elements::Floats(x) => Elements::Floats(
            x.iter().map(|v| if v.is_finite() { v.clamp(-MOST, MOST) } else { *v }).collect(),
        ),
        other => other,
    }
}
