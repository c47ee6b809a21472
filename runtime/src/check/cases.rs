//! The ops table's cases: made, run, and differentiated by finite differences.

use std::collections::HashMap;
use std::sync::Arc;

use tenon_kernels::Isa;
use tenon_kernels::quant::Format;

use crate::autodiff;
use crate::backend::{Backend, Launch, Signature};
use crate::error::Result;
use crate::executor::Executor;
use crate::graph::{Graph, ValueId};
use crate::memory::descs;
use crate::ops::{Attr, Case, Fill, Operand};
use crate::tensor::{DType, Storage, SystemAllocator, Tensor, TensorDesc};

/// Numbers that are the same everywhere: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Copy, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform()).cos()) as f32
    }

    fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, (self.uniform() * (i + 1) as f64) as usize);
        }
        order
    }
}

/// As many elements are drawn; larger operands repeat them, for to draw as many as benches take
/// would last longer than they do.
const DRAWN: usize = 1 << 17;

/// The elements of an operand, as its fill says.
#[must_use]
pub fn elements(operand: &Operand, numbers: &mut Numbers) -> Vec<f32> {
    let n = operand.desc.numel();
    let drawn = n.min(DRAWN);
    let values: Vec<f32> = match &operand.fill {
        Fill::Normal => (0..drawn).map(|_| numbers.normal()).collect(),
        Fill::Uniform(low, high) => {
            (0..drawn).map(|_| low + (high - low) * numbers.uniform() as f32).collect()
        }
        Fill::AwayFromZero => (0..drawn)
            .map(|_| numbers.normal())
            .map(|v| if v.abs() < 0.1 { v + 0.2f32.copysign(v) } else { v })
            .collect(),
        Fill::Distinct => {
            let middle = n as f32 / 2.0;
            return numbers.shuffled(n).into_iter().map(|i| 0.05 * (i as f32 - middle)).collect();
        }
        Fill::Index(bound) => {
            (0..drawn).map(|_| (numbers.uniform() * *bound as f64) as f32).collect()
        }
        Fill::Values(values) => values.clone(),
    };
    values.into_iter().cycle().take(n).collect()
}

/// A tensor of any type with (nearly) these elements.
///
/// # Errors
/// [`crate::Error`] for a description that does not fit.
pub fn tensor(desc: &TensorDesc, values: &[f32]) -> Result<Tensor> {
    let bytes: Vec<u8> = match desc.dtype() {
        DType::I32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
        DType::I8 => values.iter().map(|&v| (v as i8).cast_unsigned()).collect(),
        DType::U8 => values.iter().map(|&v| v as u8).collect(),
        other => {
            let format = other.format().unwrap_or(Format::F32);
            let tensor = Tensor::zeros(desc.clone(), &SystemAllocator)?;
            let to = tensor.storage().host();
            // SAFETY: the tensor is fresh, aligned for any element, and has room for its
            // description's blocks; there are as many values as elements.
            unsafe { format.encode(Isa::PORTABLE, values.as_ptr(), values.len(), to) };
            return Ok(tensor);
        }
    };
    Tensor::new(desc.clone(), Storage::copied(&bytes, &SystemAllocator)?)
}

/// A case as a graph, and the tensors it starts from.
pub struct Made {
    /// The graph; its outputs are `out.0`, `out.1`, ….
    pub graph: Graph,
    /// The operands: parameters, so that an op may overwrite them.
    pub operands: Vec<ValueId>,
    /// The operands' tensors by name.
    pub tensors: HashMap<String, Tensor>,
}

/// Makes a case with operands that depend on `seed` alone.
///
/// # Errors
/// What the op says of its own case.
pub fn make(case: &Case, seed: u64) -> Result<Made> {
    let (mut graph, mut tensors) = (Graph::new(), HashMap::new());
    let mut operands = Vec::new();
    for (i, operand) in case.operands.iter().enumerate() {
        let name = format!("operand.{i}");
        let mut numbers = Numbers(seed * 1000 + i as u64);
        let trains = operand.differentiate;
        operands.push(graph.parameter(&name, operand.desc.clone(), trains)?);
        tensors.insert(name, tensor(&operand.desc, &elements(operand, &mut numbers))?);
    }
    let outputs = graph.push(case.op.clone(), &operands)?;
    for (i, output) in outputs.into_iter().enumerate() {
        graph.set_output(&format!("out.{i}"), output)?;
    }
    Ok(Made { graph, operands, tensors })
}

impl Made {
    /// Whether a backend runs the case's op on its operands.
    #[must_use]
    pub fn is_claimed(&self, backend: &dyn Backend) -> bool {
        self.graph.nodes().iter().all(|node| {
            let (inputs, outputs) = descs(&self.graph, node);
            let launch = &node.op.launch(&inputs, &outputs);
            let signature = Signature { launch, inputs: &inputs, outputs: &outputs };
            *launch == Launch::Alias || backend.supports(signature)
        })
    }
}

/// The values after a run, as f32: outputs, and operands that were overwritten.
///
/// # Errors
/// What the run reports.
pub fn run(case: &Case, backend: &Arc<dyn Backend>, seed: u64) -> Result<Vec<Vec<f32>>> {
    let made = make(case, seed)?;
    let mut names: Vec<String> = made.graph.outputs().iter().map(|(n, _)| n.clone()).collect();
    names.extend(case.op.mutates().iter().map(|i| format!("operand.{i}")));
    let mut executor = Executor::new(made.graph, std::slice::from_ref(backend), &made.tensors)?;
    executor.run(&mut ())?;
    names.iter().map(|name| values(&executor, name)).collect()
}

/// A named value as f32, decoded where it is stored otherwise.
fn values(executor: &Executor, name: &str) -> Result<Vec<f32>> {
    let (desc, storage, offset) = executor.view(name)?;
    let mut bytes = vec![0; desc.bytes()];
    storage.read(offset, &mut bytes)?;
    Ok(match desc.dtype() {
        DType::I32 => bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b) as f32).collect(),
        DType::I8 => bytes.iter().map(|&b| f32::from(b.cast_signed())).collect(),
        DType::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
        other => {
            let format = other.format().unwrap_or(Format::F32);
            let stored = Storage::copied(&bytes, &SystemAllocator)?;
            let mut out = vec![0.0; desc.numel()];
            // SAFETY: `stored` holds the description's blocks, aligned for any element; `out` has
            // room for all of them.
            unsafe { format.decode(Isa::PORTABLE, stored.host(), out.len(), out.as_mut_ptr()) };
            out
        }
    })
}

/// How a case's gradient compares with finite differences.
#[derive(Clone, Copy, Debug)]
pub struct GradientCheck {
    /// The directional derivative by autodiff.
    pub exact: f64,
    /// The same by central differences.
    pub measured: f64,
    /// What rounding and curvature may make of the difference.
    pub allowed: f64,
}

/// Checks the gradient of `sum(out.0 * weights)` toward operand `wrt` along a random direction.
///
/// The step of the differences is varied and the best agreement taken: too large a step sees the
/// curvature, too small a one the rounding of f32.
///
/// # Errors
/// What building or running reports.
pub fn check_gradient(
    case: &Case,
    wrt: usize,
    backends: &[Arc<dyn Backend>],
    seed: u64,
) -> Result<GradientCheck> {
    let mut made = make(case, seed)?;
    let out = made.graph.find("out.0").unwrap_or(made.operands[wrt]);
    let mut numbers = Numbers(seed ^ 0x5eed);
    let dims = made.graph.desc(out).shape().to_vec();
    let weights: Vec<f32> = (0..dims.iter().product()).map(|_| numbers.normal()).collect();
    let seed_value = made.graph.constant(Tensor::from_slice(&dims, &weights)?);
    let product = made.graph.call("mul", &[], &[out, seed_value])?[0];
    let flat = made.graph.call("reshape", &[("shape", Attr::Ints(vec![-1]))], &[product])?[0];
    let loss = made.graph.call("reduce_sum", &[], &[flat])?[0];
    let gradient = autodiff::gradients(&mut made.graph, loss, &[made.operands[wrt]])?[0];
    if let Some(gradient) = gradient {
        made.graph.set_output("gradient", gradient)?;
    }
    let name = format!("operand.{wrt}");
    let base = made.tensors[&name].to_vec::<f32>()?;
    let direction: Vec<f32> = base.iter().map(|_| numbers.normal()).collect();
    let mut executor = Executor::new(made.graph, backends, &made.tensors)?;
    executor.run(&mut ())?;
    let exact = match gradient {
        Some(_) => dot(&executor.read_vec::<f32>("gradient")?, &direction),
        None => 0.0,
    };
    let scale = dot_abs(&executor.read_vec::<f32>("out.0")?, &weights);
    let mut best: Option<GradientCheck> = None;
    for step in [1e-2, 3e-3, 1e-3, 3e-4] {
        let mut at = |sign: f64| -> Result<f64> {
            let moved: Vec<f32> = base
                .iter()
                .zip(&direction)
                .map(|(&x, &d)| (f64::from(x) + sign * step * f64::from(d)) as f32)
                .collect();
            executor.write(&name, &moved)?;
            executor.run(&mut ())?;
            Ok(dot(&executor.read_vec::<f32>("out.0")?, &weights))
        };
        let measured = (at(1.0)? - at(-1.0)?) / (2.0 * step);
        let rounding = 4.0 * f64::from(f32::EPSILON) * scale / step;
        let allowed = 2e-3 * exact.abs().max(measured.abs()) + rounding.min(0.05 * scale) + 1e-5;
        let check = GradientCheck { exact, measured, allowed };
        if best.is_none_or(|b| check.excess() < b.excess()) {
            best = Some(check);
        }
    }
    Ok(best.unwrap_or(GradientCheck { exact, measured: f64::NAN, allowed: 0.0 }))
}

impl GradientCheck {
    /// The difference in units of what is allowed: at most 1 where the gradient is right.
    #[must_use]
    pub fn excess(&self) -> f64 {
        (self.exact - self.measured).abs() / self.allowed
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

fn dot_abs(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| (f64::from(x) * f64::from(y)).abs()).sum()
}
