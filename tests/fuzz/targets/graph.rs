//! Graphs by attributes: ops of the table with operands and attributes that are nearly right, in
//! chains; planned, differentiated, and where small trained for a step, in two memory budgets that
//! must give the same bits.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tenon_fuzz::memory::MOST;
use tenon_fuzz::reach::{expect, reached};
use tenon_fuzz::{Chosen, SIZES, Unstructured, model, rarely};
use tenon_kernels::quant::Format;
use tenon_runtime::graph::Source;
use tenon_runtime::ops::{Attr, Case, table};
use tenon_runtime::train::{
    Clipping, Moments, Optimizer, Options, Outer, Privacy, Rounds, Schedule, StateFormat, Trainer,
};
use tenon_runtime::{DType, Graph, Result, Shape, TensorDesc, ValueId};

fuzz_target!(
    init: expect(&["an op refused", "an op taken", "planned", "stepped", "stepped in a budget"]),
    |data: &[u8]| {
        let _ = go(&mut Unstructured::new(data));
    }
);

const DTYPES: &[DType] = &[
    DType::F32,
    DType::I32,
    DType::F16,
    DType::BF16,
    DType::I8,
    DType::U8,
    DType::Quant(Format::Q8_0),
    DType::Quant(Format::Q4_0),
    DType::Quant(Format::Q6K),
];

const NAMES: &[&str] = &["", "loss", "train.seed", "train.lr", "grad/p0", "p0", "out", "anchor/p1"];

/// Work that a test has time for.
const MOST_FLOPS: f64 = 1e7;

/// The table's cases, by op.
fn cases() -> &'static [Vec<Case>] {
    static CASES: OnceLock<Vec<Vec<Case>>> = OnceLock::new();
    let small = |case: &Case| !case.bench;
    CASES.get_or_init(|| {
        table().iter().map(|op| (op.cases)().into_iter().filter(small).collect()).collect()
    })
}

fn int(u: &mut Unstructured<'_>) -> Chosen<i64> {
    match u.int_in_range(0..=3)? {
        0 => Ok(*u.choose(SIZES)? as i64),
        1 => Ok((*u.choose(SIZES)? as i64).wrapping_neg()),
        _ => u.int_in_range(-3..=9),
    }
}

fn change_attr(u: &mut Unstructured<'_>, attr: &mut Attr) -> Chosen<()> {
    match attr {
        Attr::Int(v) => *v = int(u)?,
        Attr::Float(v) => *v = u.arbitrary()?,
        Attr::Bool(v) => *v = !*v,
        Attr::Str(v) => {
            *v = u
                .choose(&["", "mean", "sum", "none", "half", "bf16", "int8", "f32", "x"])?
                .to_string();
        }
        Attr::Ints(v) => match u.int_in_range(0..=3)? {
            0 => v.push(int(u)?),
            1 => drop(v.pop()),
            _ if !v.is_empty() => {
                let at = u.choose_index(v.len())?;
                v[at] = int(u)?;
            }
            _ => {}
        },
    }
    Ok(())
}

/// A graph in the making.
struct Maker {
    graph: Graph,
    made: usize,
}

impl Maker {
    /// A value to begin with: an input, a parameter or a state.
    fn source(&mut self, u: &mut Unstructured<'_>, desc: TensorDesc) -> Chosen<Option<ValueId>> {
        self.made += 1;
        let own = format!("p{}", self.made);
        let name = if rarely(u, 64)? { *u.choose(NAMES)? } else { &own };
        let trains = desc.dtype() == DType::F32 && u.ratio(7, 8)?;
        let value = match u.int_in_range(0..=7)? {
            0 | 1 => self.graph.input(name, desc),
            2 => self.graph.state(name, desc),
            3 => self.graph.receive(name, desc, trains),
            _ => self.graph.parameter(name, desc, trains),
        };
        Ok(value.ok())
    }

    /// An operand that is nearly as a case has it: a value that fits, or a new one.
    fn operand(&mut self, u: &mut Unstructured<'_>, like: &TensorDesc) -> Chosen<Option<ValueId>> {
        let fits: Vec<ValueId> =
            self.graph.iter_values().filter(|(_, v)| v.desc == *like).map(|(id, _)| id).collect();
        if !fits.is_empty() && u.ratio(3, 4)? {
            return u.choose(&fits).copied().map(Some);
        }
        if rarely(u, 32)? && !self.graph.values().is_empty() {
            let any = u.choose_index(self.graph.values().len())?;
            return Ok(self.graph.value_id(any));
        }
        let (mut dtype, mut dims) = (like.dtype(), like.shape().to_vec());
        if rarely(u, 16)? {
            dtype = *u.choose(DTYPES)?;
        }
        if rarely(u, 16)? && !dims.is_empty() {
            let at = u.choose_index(dims.len())?;
            dims[at] = *u.choose(SIZES)? as usize;
        }
        if rarely(u, 32)? {
            dims.insert(u.int_in_range(0..=dims.len())?, u.int_in_range(0..=4)?);
        }
        match Shape::new(&dims).and_then(|shape| TensorDesc::new(dtype, shape)) {
            Ok(desc) => self.source(u, desc),
            Err(_) => Ok(None),
        }
    }

    /// Adds an op; gives whether it was taken.
    fn op(&mut self, u: &mut Unstructured<'_>) -> Chosen<bool> {
        let at = u.choose_index(table().len())?;
        if cases()[at].is_empty() {
            return Ok(false);
        }
        let case = u.choose(&cases()[at])?;
        let mut attrs = case.op.attrs();
        if rarely(u, 4)? && !attrs.is_empty() {
            let which = u.choose_index(attrs.len())?;
            change_attr(u, &mut attrs[which].1)?;
        }
        let mut operands = Vec::new();
        for operand in &case.operands {
            let Some(value) = self.operand(u, &operand.desc)? else { return Ok(false) };
            operands.push(value);
        }
        if rarely(u, 64)? {
            operands.pop();
        }
        let Ok(outputs) = self.graph.call(table()[at].name, &attrs, &operands) else {
            return Ok(false);
        };
        for output in outputs {
            if rarely(u, 8)? {
                let name = format!("out{}", output.index());
                let _ = self.graph.set_output(&name, output);
            }
            if rarely(u, 32)? {
                let name = format!("sent{}", output.index());
                let dtype = *u.choose(DTYPES)?;
                let _ = self.graph.send(&name, output, dtype, u.arbitrary()?);
            }
        }
        Ok(true)
    }

    /// The sum of everything of a value, to be made small.
    fn loss(&mut self, value: ValueId) -> Result<ValueId> {
        let axes: Vec<usize> = (0..self.graph.desc(value).shape().len()).collect();
        Ok(self.graph.call("reduce_sum", &[("axes", axes[..].into())], &[value])?[0])
    }
}

fn options(u: &mut Unstructured<'_>) -> Chosen<Options> {
    let number = |u: &mut Unstructured<'_>, usual: f32| -> Chosen<f32> {
        if rarely(u, 64)? { u.arbitrary() } else { Ok(usual) }
    };
    let moments =
        Moments { weight_decay: number(u, 0.1)?, beta1: number(u, 0.9)?, ..Moments::default() };
    let sgd = Optimizer::Sgd {
        momentum: number(u, 0.9)?,
        nesterov: u.arbitrary()?,
        weight_decay: number(u, 0.0)?,
    };
    let private = Privacy {
        samples: if rarely(u, 16)? { *u.choose(SIZES)? as usize } else { u.int_in_range(1..=4)? },
        clip: number(u, 1.0)?,
        noise: number(u, 0.5)?,
        seed: 7,
    };
    let outer = Outer { lr: number(u, 0.5)?, momentum: number(u, 0.9)? };
    Ok(Options {
        optimizer: *u.choose(&[Optimizer::AdamW(moments), Optimizer::Adam(moments), sgd])?,
        state: *u.choose(&[StateFormat::F32, StateFormat::Bf16, StateFormat::Int8])?,
        schedule: Schedule::constant(number(u, 1e-2)?),
        clip_norm: if rarely(u, 2)? { Some(number(u, 1.0)?) } else { None },
        clipping: *u.choose(&[Clipping::Exact, Clipping::TwoPass, Clipping::Running])?,
        accumulation: u.int_in_range(1..=2)?,
        keep_gradients: rarely(u, 4)?,
        rounds: Rounds {
            proximal: if rarely(u, 8)? { number(u, 0.1)? } else { 0.0 },
            control: rarely(u, 8)?,
            outer: if rarely(u, 8)? { Some(outer) } else { None },
        },
        privacy: if rarely(u, 8)? { Some(private) } else { None },
        memory_budget: None,
        spill: None,
        stage_inputs: rarely(u, 8)?,
    })
}

/// Writes every input and parameter, the same each time.
fn write(trainer: &Trainer, index: i32) -> Result<()> {
    let is_written = |source: &Source| matches!(source, Source::Input | Source::Parameter { .. });
    for value in trainer.graph().values() {
        let (Some(name), true) = (&value.name, is_written(&value.source)) else { continue };
        if name.starts_with("train.") {
            continue;
        }
        let tensor = trainer.executor().writable(name)?;
        let mut bytes = vec![0; tensor.desc().bytes()];
        for (i, word) in bytes.chunks_mut(4).enumerate() {
            let hash = (i as u32).wrapping_mul(0x9e37_79b9);
            let number = match value.desc.dtype() {
                DType::F32 => ((hash >> 8) as f32 / (1 << 23) as f32 - 1.0).to_le_bytes(),
                DType::I32 => index.to_le_bytes(),
                _ => (hash & 0x3f3f_3f3f).to_le_bytes(),
            };
            word.copy_from_slice(&number[..word.len()]);
        }
        tensor.storage().write(0, &bytes)?;
    }
    Ok(())
}

/// Trains two steps, and gives every bit of what came of it: the loss, then what is kept.
fn train(trainer: &mut Trainer, index: i32) -> Result<(u32, Vec<u8>)> {
    write(trainer, index)?;
    let mut loss = 0.0;
    for _ in 0..2 {
        if trainer.executor().has_wait() {
            trainer.forward(&mut ())?;
        }
        loss = trainer.step(&mut ())?.loss;
    }
    let mut kept = Vec::new();
    for (_, tensor) in trainer.executor().persistent() {
        // SAFETY: nothing runs.
        kept.extend_from_slice(unsafe { tensor.storage().bytes() }?);
    }
    trainer.evaluate(&mut ())?;
    Ok((loss.to_bits(), kept))
}

fn go(u: &mut Unstructured<'_>) -> Chosen<()> {
    let mut maker = Maker { graph: Graph::new(), made: 0 };
    for _ in 0..u.int_in_range(1..=10)? {
        reached(if maker.op(u)? { "an op taken" } else { "an op refused" });
    }
    let floats: Vec<ValueId> = maker
        .graph
        .iter_values()
        .filter(|(_, v)| matches!(v.source, Source::Node { .. }) && v.desc.dtype() == DType::F32)
        .map(|(id, _)| id)
        .collect();
    let mut loss = None;
    for _ in 0..u.int_in_range(1..=3)? {
        let Some(&value) = (if floats.is_empty() { None } else { Some(u.choose(&floats)?) }) else {
            break;
        };
        let Ok(part) = maker.loss(value) else { break };
        loss = match loss {
            None => Some(part),
            Some(sum) => maker.graph.call("add", &[], &[sum, part]).ok().map(|all| all[0]),
        };
    }
    if rarely(u, 16)? {
        loss = None;
    }
    let _ = (maker.graph.dump(), maker.graph.graphviz());
    let (options, index) = (options(u)?, u.int_in_range(-1..=4)?);
    let share = 100 - u.int_in_range(0..=70)?;
    let _ = plan_and_train(maker.graph, loss, options, index, share);
    Ok(())
}

fn plan_and_train(
    graph: Graph,
    loss: Option<ValueId>,
    options: Options,
    index: i32,
    share: usize,
) -> Result<()> {
    let backends = model::cpu();
    let (whole, plan) = Trainer::plan_only(graph.clone(), loss, &backends, &options)?;
    reached("planned");
    let flops: f64 = plan
        .nodes()
        .iter()
        .map(|planned| {
            let node = &whole.nodes()[planned.node.index()];
            let descs = |ids: &[ValueId]| ids.iter().map(|&v| whole.desc(v)).collect::<Vec<_>>();
            let cost = node.op.cost(&descs(&node.inputs), &descs(&node.outputs));
            cost.flops.abs() + cost.bytes
        })
        .sum();
    // A NaN is no reason to run.
    if plan.peak_bytes() > MOST / 8 || !(flops <= MOST_FLOPS) {
        return Ok(());
    }
    let none = Default::default();
    let mut trainer = Trainer::new(graph.clone(), loss, &backends, &none, options.clone())?;
    let first = train(&mut trainer, index)?;
    reached("stepped");
    let budget = Some(trainer.plan().peak_bytes() * share / 100);
    let small = Options { memory_budget: budget, ..options };
    let mut trainer = Trainer::new(graph, loss, &backends, &none, small)?;
    assert!(trainer.plan().peak_bytes() <= budget.unwrap_or_default());
    let second = train(&mut trainer, index)?;
    reached("stepped in a budget");
    assert_eq!(first.0, second.0, "the losses differ");
    assert!(first.1 == second.1, "what is trained differs");
    Ok(())
}
