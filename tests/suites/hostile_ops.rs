//! Every op with operands and attributes that it was not made for: each combination is refused, or
//! planned, run and differentiated, without a panic or a crash.
//!
//! The op table's own cases are where this starts from; a few things of each are changed at random,
//! the same ones each time. `TENON_TELL=1` prints each try before it is made: the last one printed
//! is what crashed or hung.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tenon_backends::cpu::{Cpu, Options};
use tenon_kernels::quant::Format;
use tenon_runtime::autodiff::gradients;
use tenon_runtime::backend::Backend;
use tenon_runtime::check::Numbers;
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::Graph;
use tenon_runtime::memory::Plan;
use tenon_runtime::ops::{Attr, Case, OpEntry, table};
use tenon_runtime::tensor::Shape;
use tenon_runtime::{DType, Result, TensorDesc};
use tenon_tests::golden::report;

/// Tries of each op.
const TRIES: u64 = 5000;

/// Graphs up to this size are run; larger ones are planned.
const RUN_BYTES: usize = 1 << 22;

/// Sizes of dimensions: none, the usual edges of blocks and vectors, and far too many.
const SIZES: &[usize] =
    &[0, 0, 1, 1, 2, 3, 5, 8, 16, 31, 32, 33, 64, 257, 1 << 20, (1 << 31) + 1, 1 << 44];

const INTS: &[i64] = &[
    0,
    1,
    2,
    3,
    5,
    7,
    64,
    -1,
    -2,
    -100,
    1 << 20,
    1 << 31,
    1 << 32,
    (1 << 62) + 1,
    i64::MAX,
    i64::MIN,
];

const FLOATS: &[f64] =
    &[0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, -1e-300, 1e300, -1e300, f64::NAN, f64::INFINITY];

const DTYPES: &[DType] = &[
    DType::F32,
    DType::I32,
    DType::F16,
    DType::BF16,
    DType::I8,
    DType::U8,
    DType::Quant(Format::Q8_0),
    DType::Quant(Format::Q4_1),
    DType::Quant(Format::Q4K),
];

fn pick<T: Copy>(numbers: &mut Numbers, from: &[T]) -> T {
    from[(numbers.uniform() * from.len() as f64) as usize]
}

/// An op to try, as a caller of the C ABI would ask for it.
#[derive(Clone, Debug)]
struct Try {
    op: &'static str,
    attrs: Vec<(&'static str, Attr)>,
    operands: Vec<(DType, Vec<usize>)>,
    /// What index operands hold.
    index: i32,
}

impl Try {
    fn of(case: &Case) -> Self {
        let operands = case.operands.iter().map(|o| (o.desc.dtype(), o.desc.shape().to_vec()));
        let (op, attrs) = (case.op.name(), case.op.attrs());
        Self { op, attrs, operands: operands.collect(), index: 0 }
    }

    /// Changes one thing.
    fn change(&mut self, numbers: &mut Numbers) {
        let what = (numbers.uniform() * 10.0) as usize;
        let which = numbers.uniform();
        let operand = (which * self.operands.len() as f64) as usize;
        let attr = (which * self.attrs.len() as f64) as usize;
        match what {
            0 => self.index = pick(numbers, INTS) as i32,
            1..4 if !self.attrs.is_empty() => change_attr(&mut self.attrs[attr].1, numbers),
            4 if !self.operands.is_empty() => self.operands[operand].0 = pick(numbers, DTYPES),
            5 if !self.operands.is_empty() => {
                let dims = &mut self.operands[operand].1;
                let at = (numbers.uniform() * (dims.len() + 1) as f64) as usize;
                if numbers.uniform() < 0.5 {
                    dims.insert(at, pick(numbers, SIZES));
                } else {
                    dims.pop();
                }
            }
            6 if self.operands.len() > 1 => {
                self.operands.remove(operand);
            }
            // The same size in all operands that had the same: what fits is then large or empty.
            7 | 8 if !self.operands.is_empty() => {
                let dims = &self.operands[operand].1;
                let at = (numbers.uniform() * dims.len() as f64) as usize;
                let Some(&old) = dims.get(at) else { return };
                let new = pick(numbers, SIZES);
                for (_, dims) in &mut self.operands {
                    dims.iter_mut().filter(|d| **d == old).for_each(|d| *d = new);
                }
            }
            _ if !self.operands.is_empty() => {
                let dims = &mut self.operands[operand].1;
                let at = (numbers.uniform() * dims.len() as f64) as usize;
                if let Some(dim) = dims.get_mut(at) {
                    *dim = pick(numbers, SIZES);
                }
            }
            _ => {}
        }
    }

    /// Builds the op into a graph, plans it, and where it is small runs it with its gradient. Gives
    /// how far it came: 0 refused, 1 planned, 2 run.
    fn go(&self, backend: &Arc<dyn Backend>) -> Result<usize> {
        let mut graph = Graph::new();
        let mut operands = Vec::new();
        for (i, (dtype, dims)) in self.operands.iter().enumerate() {
            let desc = TensorDesc::new(*dtype, Shape::new(dims)?)?;
            operands.push(graph.parameter(&format!("p{i}"), desc, *dtype == DType::F32)?);
        }
        let outputs = graph.call(self.op, &self.attrs, &operands)?;
        for (i, &output) in outputs.iter().enumerate() {
            graph.set_output(&format!("out{i}"), output)?;
        }
        self.run(graph.clone(), backend)?;
        let Some(&first) = outputs.first() else { return Ok(2) };
        let loss = graph.call("reduce_sum", &[], &[first])?[0];
        let trained = graph.trainable();
        for gradient in gradients(&mut graph, loss, &trained)?.into_iter().flatten() {
            graph.set_output(&format!("grad{}", gradient.index()), gradient)?;
        }
        self.run(graph, backend)
    }

    fn run(&self, graph: Graph, backend: &Arc<dyn Backend>) -> Result<usize> {
        let backends = std::slice::from_ref(backend);
        let plan = Plan::new(&graph, backends)?;
        // Sizes of work, not of memory: a matrix without columns may have ever so many rows.
        let sizes = self.operands.iter().map(|(_, dims)| dims.iter().map(|&d| d.max(1)));
        let work: usize = sizes.map(Iterator::product::<usize>).sum();
        if plan.peak_bytes().saturating_add(work.saturating_mul(4)) > RUN_BYTES {
            return Ok(1);
        }
        let mut executor = Executor::new(graph, backends, &Default::default())?;
        for (i, (dtype, dims)) in self.operands.iter().enumerate() {
            if *dtype == DType::I32 {
                let data = vec![self.index; dims.iter().product()];
                executor.write(&format!("p{i}"), &data)?;
            }
        }
        executor.run(&mut ())?;
        Ok(2)
    }
}

fn change_attr(attr: &mut Attr, numbers: &mut Numbers) {
    match attr {
        Attr::Int(v) => *v = pick(numbers, INTS),
        Attr::Float(v) => *v = pick(numbers, FLOATS),
        Attr::Bool(v) => *v = !*v,
        Attr::Str(v) => v.push('x'),
        Attr::Ints(v) => match (numbers.uniform() * 4.0) as usize {
            0 => v.push(pick(numbers, INTS)),
            1 => drop(v.pop()),
            _ => {
                let at = (numbers.uniform() * v.len() as f64) as usize;
                if let Some(v) = v.get_mut(at) {
                    *v = pick(numbers, INTS);
                }
            }
        },
    }
}

/// What went wrong, and how many tries came how far.
fn try_op(entry: &OpEntry, backend: &Arc<dyn Backend>) -> (Vec<String>, [usize; 3]) {
    let cases: Vec<Case> = (entry.cases)().into_iter().filter(|c| !c.bench).collect();
    let (mut failures, mut far) = (Vec::new(), [0; 3]);
    for i in 0..TRIES {
        let mut numbers = Numbers(i);
        let mut tried = Try::of(&cases[i as usize % cases.len()]);
        for _ in 0..1 + (numbers.uniform() * 3.0) as usize {
            tried.change(&mut numbers);
        }
        if std::env::var_os("TENON_TELL").is_some() {
            report(&format!("{tried:?}"));
        }
        match catch_unwind(AssertUnwindSafe(|| tried.go(backend))) {
            Ok(Ok(came)) => far[came] += 1,
            Ok(Err(_)) => far[0] += 1,
            Err(_) => failures.push(format!("{tried:?}")),
        }
    }
    (failures, far)
}

/// [`try_op`] of every `stride`-th op, from the `first` on.
fn try_ops(first: usize, stride: usize) -> (Vec<String>, [usize; 3]) {
    let options = Options { threads: std::num::NonZero::new(2), ..Options::default() };
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(options).expect("the CPU"));
    let (mut failures, mut all) = (Vec::new(), [0; 3]);
    for entry in table().iter().skip(first).step_by(stride) {
        let (failed, far) = try_op(entry, &backend);
        failures.extend(failed);
        all.iter_mut().zip(far).for_each(|(sum, n)| *sum += n);
    }
    (failures, all)
}

#[test]
fn no_operands_break_an_op() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let parts = (0..threads).map(|first| scope.spawn(move || try_ops(first, threads)));
        let parts: Vec<_> = parts.collect();
        parts.into_iter().map(|part| part.join().expect("a part of the ops")).collect()
    });
    let failures: Vec<_> = parts.iter().flat_map(|(failures, _)| failures.as_slice()).collect();
    let [refused, planned, run] =
        [0, 1, 2].map(|far| parts.iter().map(|(_, all)| all[far]).sum::<usize>());
    report(&format!("hostile_ops: {refused} refused, {planned} planned, {run} run"));
    assert!(failures.is_empty(), "{} failures:\n{failures:#?}", failures.len());
    assert!(refused > 10_000 && planned > 100 && run > 10_000, "the tries lost their edge");
}
