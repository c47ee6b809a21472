//! Which steps go to the accelerator, and what enters and leaves them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use tenon_kernels::Isa;
use tenon_runtime::backend::{Backend, Operand, Part, Signature, Step};
use tenon_runtime::{DType as Stored, Result, TensorDesc};

use super::graph::{Graph, ValueId};
use super::lower::{Builder, is_encoded, type_of};
use super::table::Target;

/// What a partition must bring to be worth it.
#[derive(Clone, Copy, Debug)]
pub struct Worth {
    /// Seconds that a run costs before it does anything.
    pub start: f64,
    /// Bytes a second over the boundary.
    pub bytes: f64,
    /// How many times as fast as the CPU the accelerator is taken to be.
    pub speedup: f64,
}

impl Worth {
    /// Everything that can run is worth it: for tests.
    pub const ALL: Self = Self { start: 0.0, bytes: f64::INFINITY, speedup: f64::INFINITY };
}

impl Default for Worth {
    /// Of a phone of some years ago: 0.3 ms a run, 4 GB/s, 4 times. Estimates; no device was measured.
    fn default() -> Self {
        Self { start: 3e-4, bytes: 4e9, speedup: 4.0 }
    }
}

/// Where a value lies in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) slot: usize,
    pub(super) offset: usize,
    pub(super) desc: TensorDesc,
}

impl Place {
    fn of(operand: &Operand) -> Self {
        Self { slot: operand.slot, offset: operand.offset, desc: operand.desc.clone() }
    }

    fn key(&self) -> (usize, usize) {
        (self.slot, self.offset)
    }
}

/// Integers of an input to look at before a run.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    /// Which input.
    pub(super) input: usize,
    pub(super) bound: usize,
    pub(super) ignore: Option<i32>,
}

/// Steps as a graph, and where its inputs come from and its outputs go.
pub(super) struct Lowered {
    pub(super) graph: Graph,
    pub(super) inputs: Vec<Place>,
    pub(super) outputs: Vec<Place>,
    pub(super) checked: Vec<Checked>,
    /// Of each node, the step it is of.
    pub(super) steps: Vec<usize>,
    /// Of each node, whether it is of a forward product: of what may be computed in codes.
    pub(super) forward: Vec<bool>,
}

/// Slot of the arena: the only one that outputs lie in.
const ARENA: usize = 0;

/// What steps leave behind that is still needed: of the part's later steps, or after it.
fn leaving(part: &Part<'_>, range: &Range<usize>) -> Vec<Place> {
    let mut made: HashMap<usize, Place> = HashMap::new();
    for output in part.steps[range.clone()].iter().flat_map(|s| &s.outputs) {
        made.insert(output.offset, Place::of(output));
    }
    let mut needed = Vec::new();
    for step in &part.steps[range.end..] {
        for input in step.inputs.iter().filter(|o| o.slot == ARENA) {
            needed.extend(made.remove(&input.offset));
        }
        for output in step.outputs.iter().filter(|o| o.slot == ARENA) {
            made.remove(&output.offset);
        }
    }
    needed.extend(part.taken.iter().filter_map(|range| made.remove(&range.start)));
    needed
}

/// A part's steps as a graph.
///
/// # Errors
/// Where a step has no lowering.
pub(super) fn lower(target: Target, part: &Part<'_>, range: &Range<usize>) -> Result<Lowered> {
    let mut builder = Builder::new(target);
    let mut known: HashMap<(usize, usize), ValueId> = HashMap::new();
    let (mut inputs, mut steps, mut forward) = (Vec::new(), Vec::new(), Vec::new());
    for (number, step) in part.steps[range.clone()].iter().enumerate() {
        let mut operands = Vec::with_capacity(step.inputs.len());
        for operand in &step.inputs {
            let place = Place::of(operand);
            let value = match known.get(&place.key()) {
                Some(&value) => value,
                None => bind(&mut builder, part, operand, &mut inputs)?,
            };
            known.insert(place.key(), value);
            operands.push(shaped(&mut builder, value, &operand.desc)?);
        }
        let descs = |operands: &'_ [Operand]| -> Vec<TensorDesc> {
            operands.iter().map(|o| o.desc.clone()).collect()
        };
        let (from, to) = (descs(&step.inputs), descs(&step.outputs));
        let signature = Signature {
            launch: &step.launch,
            inputs: &from.iter().collect::<Vec<_>>(),
            outputs: &to.iter().collect::<Vec<_>>(),
        };
        let made = builder.launch(signature, &operands)?;
        for (operand, value) in step.outputs.iter().zip(made) {
            known.insert((operand.slot, operand.offset), value);
        }
        let nodes = builder.graph.nodes().len();
        steps.resize(nodes, range.start + number);
        forward.resize(nodes, matches!(step.op.name(), "linear" | "conv2d"));
    }
    let outputs = leaving(part, range);
    for place in &outputs {
        let value = shaped(&mut builder, known[&place.key()], &place.desc)?;
        builder.graph.output(value);
    }
    steps.resize(builder.graph.nodes().len(), range.end - 1);
    forward.resize(builder.graph.nodes().len(), false);
    // What comes from outside, with integers once for each shape that they are read in.
    let place_of = |value: ValueId| {
        let first = builder.views.iter().find(|(view, _)| *view == value);
        let first = first.map_or(value, |(_, first)| *first);
        let found = inputs.iter().find(|(input, _)| *input == first);
        found.map(|(_, place)| place.clone())
    };
    let (graph, kept) = builder.graph.pruned();
    let all: Option<Vec<Place>> =
        kept.iter().map(|&i| place_of(builder.graph.inputs()[i])).collect();
    let all = all.ok_or_else(|| tenon_runtime::Error::Graph("an input without a place".into()))?;
    let checked = builder.checked.iter().filter_map(|c| {
        let place = place_of(c.value)?;
        let input = all.iter().position(|p| p.key() == place.key())?;
        Some(Checked { input, bound: c.bound, ignore: c.ignore })
    });
    let checked = checked.collect();
    // What nobody reads is left out of nodes as well.
    let kept_nodes: Vec<usize> = builder.graph.kept_nodes();
    let steps = kept_nodes.iter().map(|&i| steps[i]).collect();
    let forward = kept_nodes.iter().map(|&i| forward[i]).collect();
    Ok(Lowered { graph, inputs: all, outputs, checked, steps, forward })
}

/// A value in the shape that an operand has of the same memory.
fn shaped(builder: &mut Builder, value: ValueId, desc: &TensorDesc) -> Result<ValueId> {
    builder.reshape(value, &super::lower::shape_of(desc))
}

/// What comes from outside: an input, or what never changes as a constant.
fn bind(
    builder: &mut Builder,
    part: &Part<'_>,
    operand: &Operand,
    inputs: &mut Vec<(ValueId, Place)>,
) -> Result<ValueId> {
    let desc = &operand.desc;
    let bad = || tenon_runtime::Error::Graph(format!("no lowering: an operand of {desc}"));
    let ty = type_of(desc).ok_or_else(bad)?;
    let storage = &part.storages[operand.slot];
    let is_frozen = part.frozen[operand.slot];
    if is_encoded(desc) {
        if !is_frozen {
            return Err(bad());
        }
        let mut bytes = vec![0; desc.bytes()];
        storage.read(operand.offset, &mut bytes)?;
        return builder.graph.floats(&ty.shape, &decode(desc, &bytes));
    }
    // Frozen weights that can be written would be stale then.
    if is_frozen && !storage.is_writable() {
        let mut bytes = vec![0; desc.bytes()];
        storage.read(operand.offset, &mut bytes)?;
        return builder.graph.constant(ty, Arc::<[u8]>::from(bytes));
    }
    let input = builder.graph.input(ty);
    inputs.push((input, Place::of(operand)));
    Ok(input)
}

fn decode(desc: &TensorDesc, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0f32; desc.numel()];
    let Some(format) = desc.dtype().format().filter(|_| desc.dtype() != Stored::F32) else {
        return out;
    };
    // Blocks may ask for alignment.
    let mut aligned = vec![0u64; bytes.len().div_ceil(8)];
    // SAFETY: as many bytes as are given; any byte is a part of an integer. Then `aligned` holds the
    // description's blocks, and `out` has room for its elements.
    unsafe {
        let to = aligned.as_mut_ptr().cast::<u8>();
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        format.decode(Isa::PORTABLE, to.cast_const(), out.len(), out.as_mut_ptr());
    }
    out
}

/// Seconds that a partition is taken to save, by what the CPU would need and what crosses the
/// boundary; none or less where it is not worth it.
pub(super) fn gain(
    worth: Worth,
    cpu: &dyn Backend,
    steps: &[Step],
    inputs: &[Place],
    outputs: &[Place],
) -> f64 {
    let seconds = |step: &Step| {
        let from: Vec<&TensorDesc> = step.inputs.iter().map(|o| &o.desc).collect();
        let to: Vec<&TensorDesc> = step.outputs.iter().map(|o| &o.desc).collect();
        cpu.seconds(&step.launch, step.op.cost(&from, &to))
    };
    let before: f64 = steps.iter().map(seconds).sum();
    let crossing: usize = inputs.iter().chain(outputs).map(|p| p.desc.bytes()).sum();
    before - before / worth.speedup - crossing as f64 / worth.bytes - worth.start
}
