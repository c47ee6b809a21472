//! Packages for Core ML of every operation of a bridge's graph, forward and backward partitions of the
//! operators' cases, and of a training step. `tests/run coreml` lets Apple's tools judge what is left in
//! `target/coreml/cases`; here, only that all of it can be written.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tenon_backends::coreml::emit::{self, Options};
use tenon_backends::coreml::program::Opset;
use tenon_backends::cpu::{Cpu, Options as CpuOptions};
use tenon_backends::npu::evaluate::evaluate;
use tenon_backends::npu::op::{Binary, Compare, Reduce, Unary};
use tenon_backends::npu::{
    Affine, Compiled, DType, Description, Engine, Graph, Npu, Op, Options as NpuOptions, Target,
    Type, ValueId, Window, Worth,
};
use tenon_kernels::Isa;
use tenon_kernels::gemm::Precision;
use tenon_kernels::quant::Format;
use tenon_kernels::random::Philox;
use tenon_runtime::backend::Backend;
use tenon_runtime::check::{Direction, Verdict, checks};
use tenon_runtime::train::{self, Schedule, Trainer};
use tenon_runtime::{Result, Tensor, TensorDesc};
use tenon_tests::golden::report;
use tenon_tests::models::block;

/// Where the packages are left.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/coreml/cases")
}

/// A package with the bytes of its inputs and the answers to them.
fn save(name: &str, graph: &Graph, inputs: &[Vec<u8>], options: &Options) -> PathBuf {
    let path = folder().join(format!("{name}.mlpackage"));
    graph.verify().unwrap_or_else(|e| panic!("{name}: {e}"));
    emit::package(graph, options, &path).unwrap_or_else(|e| panic!("{name}: {e}"));
    let given: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let answers = evaluate(graph, &given).unwrap_or_else(|e| panic!("{name}: {e}"));
    let write = |kind: &str, all: &[Vec<u8>]| {
        for (number, bytes) in all.iter().enumerate() {
            fs::write(path.with_extension(format!("{kind}{number}")), bytes).expect("a file");
        }
    };
    write("x", inputs);
    write("y", &answers);
    path
}

/// A graph that grows with the values of its inputs.
struct Case {
    graph: Graph,
    inputs: Vec<Vec<u8>>,
    float: DType,
    philox: Philox,
    thrown: u64,
}

impl Case {
    fn new(float: &DType) -> Self {
        let philox = Philox::new(7, 0);
        Self {
            graph: Graph::default(),
            inputs: Vec::new(),
            float: float.clone(),
            philox,
            thrown: 0,
        }
    }

    /// Numbers from `low` to `high`.
    fn numbers(&mut self, count: usize, low: f32, high: f32) -> Vec<f32> {
        self.thrown += count as u64;
        let first = self.thrown;
        (0..count as u64).map(|at| low + (high - low) * self.philox.uniform(first + at)).collect()
    }

    fn bytes(&self, numbers: &[f32]) -> Vec<u8> {
        match self.float {
            DType::F16 => {
                numbers.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect()
            }
            _ => numbers.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    fn ty(&self, shape: &[usize]) -> Type {
        Type::new(self.float.clone(), shape)
    }

    fn input_in(&mut self, shape: &[usize], low: f32, high: f32) -> ValueId {
        let numbers = self.numbers(shape.iter().product(), low, high);
        self.inputs.push(self.bytes(&numbers));
        self.graph.input(self.ty(shape))
    }

    fn input(&mut self, shape: &[usize]) -> ValueId {
        self.input_in(shape, -2.0, 2.0)
    }

    fn constant(&mut self, shape: &[usize]) -> ValueId {
        let numbers = self.numbers(shape.iter().product(), -1.0, 1.0);
        let bytes = self.bytes(&numbers);
        self.graph.constant(self.ty(shape), bytes).expect("a constant")
    }

    fn integers(&mut self, data: &[i32]) -> ValueId {
        self.inputs.push(data.iter().flat_map(|v| v.to_le_bytes()).collect());
        self.graph.input(Type::new(DType::I32, &[data.len()]))
    }

    /// Codes as a constant.
    fn codes(&mut self, shape: &[usize], affine: Affine) -> ValueId {
        let numbers = self.numbers(shape.iter().product(), -128.0, 128.0);
        let bytes: Vec<u8> = numbers.iter().map(|v| (v.floor() as i8).cast_unsigned()).collect();
        self.graph.constant(Type::new(DType::I8(affine), shape), bytes).expect("a constant")
    }

    /// Codes as numbers of the case's type.
    fn decoded(&mut self, shape: &[usize], affine: Affine) -> ValueId {
        let codes = self.codes(shape, affine);
        let numbers = self.add(Op::Dequantize, &[codes]);
        if self.float == DType::F16 { self.add(Op::Cast(DType::F16), &[numbers]) } else { numbers }
    }

    fn add(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.graph.add(op, inputs).expect("a node")
    }

    fn save(mut self, name: &str, outputs: &[ValueId]) -> PathBuf {
        for &output in outputs {
            self.graph.output(output);
        }
        let half = if self.float == DType::F16 { "-f16" } else { "" };
        let options = Options { newest: Opset::Ios18, states: Vec::new() };
        save(&format!("{name}{half}"), &self.graph, &self.inputs, &options)
    }
}

const FLOATS: [DType; 2] = [DType::F32, DType::F16];

fn window(stride: usize, dilation: usize, pad: [[usize; 2]; 2], groups: usize) -> Window {
    Window { stride: [stride, 1], dilation: [dilation, 1], pad, groups }
}

fn affine(scales: &[f32], zero: i32, axis: Option<usize>) -> Affine {
    Affine { scales: scales.into(), zero, axis }
}

/// Every operation, with constants and without.
#[test]
fn operations() {
    fs::create_dir_all(folder()).expect("a folder");
    for float in &FLOATS {
        elementwise(float);
        products(float);
        movements(float);
        images(float);
        codes(float);
        blocks(float);
        ends(float);
    }
}

fn elementwise(float: &DType) {
    use Unary::{Abs, Erf, Exp, Floor, Log, Neg, Relu, Rsqrt, Sigmoid, Sin, Sqrt, Tanh};
    for kind in [Neg, Abs, Sqrt, Rsqrt, Exp, Log, Sin, Tanh, Sigmoid, Relu, Floor, Erf] {
        let mut case = Case::new(float);
        let low = if matches!(kind, Sqrt | Rsqrt | Log) { 0.1 } else { -2.0 };
        let x = case.input_in(&[2, 3, 4], low, 2.0);
        let y = case.add(Op::Unary(kind), &[x]);
        case.save(&format!("op_{}", Op::Unary(kind).name()), &[y]);
    }
    use Binary::{Add, Div, Max, Min, Mul, Pow, Sub};
    for kind in [Add, Sub, Mul, Div, Pow, Max, Min] {
        let mut case = Case::new(float);
        let (x, y) = (case.input_in(&[2, 3, 4], 0.5, 2.0), case.input_in(&[3, 1], 0.5, 2.0));
        let z = case.add(Op::Binary(kind), &[x, y]);
        case.save(&format!("op_{}", Op::Binary(kind).name()), &[z]);
    }
    use Compare::{Eq, Ge, Gt, Le, Lt, Ne};
    for kind in [Lt, Le, Gt, Ge, Eq, Ne] {
        let mut case = Case::new(float);
        let (x, y) = (case.input(&[4, 5]), case.constant(&[4, 5]));
        let mask = case.add(Op::Compare(kind), &[x, y]);
        let z = case.add(Op::Select, &[mask, x, y]);
        case.save(&format!("op_{}", Op::Compare(kind).name()), &[z]);
    }
    let mut case = Case::new(float);
    let (x, y) = (case.input(&[2, 3]), case.input(&[2, 3]));
    let mask = case.add(Op::Compare(Lt), &[x, y]);
    let z = case.add(Op::Select, &[mask, x, y]);
    case.save("op_select", &[z]);
    let mut case = Case::new(float);
    let (x, ids) = (case.input(&[5]), case.integers(&[3, -4, 0, 7, 2]));
    let floats = case.add(Op::Cast(float.clone()), &[ids]);
    let sum = case.add(Op::Binary(Add), &[x, floats]);
    let whole = case.add(Op::Cast(DType::I32), &[floats]);
    case.save("op_cast", &[sum, whole]);
}

fn products(float: &DType) {
    for (name, w_is_input, b_is_input) in
        [("", false, false), ("_input_weight", true, true), ("_input_bias", false, true)]
    {
        let mut case = Case::new(float);
        let x = case.input(&[5, 7]);
        let w = if w_is_input { case.input(&[6, 7]) } else { case.constant(&[6, 7]) };
        let b = if b_is_input { case.input(&[6]) } else { case.constant(&[6]) };
        let (y, z) = (case.add(Op::Linear, &[x, w, b]), case.add(Op::Linear, &[x, w]));
        case.save(&format!("op_linear{name}"), &[y, z]);
    }
    let mut case = Case::new(float);
    let mut outputs = Vec::new();
    for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
        let a = case.input(if trans_a { &[2, 4, 3] } else { &[2, 3, 4] });
        let b = case.input(if trans_b { &[2, 5, 4] } else { &[2, 4, 5] });
        outputs.push(case.add(Op::MatMul { trans_a, trans_b }, &[a, b]));
    }
    case.save("op_matmul", &outputs);
}

fn movements(float: &DType) {
    for kind in [Reduce::Sum, Reduce::Mean, Reduce::Max] {
        let mut case = Case::new(float);
        let x = case.input(&[2, 3, 4]);
        let op = Op::Reduce { kind, axes: vec![0, 2] };
        let name = format!("op_{}", op.name());
        let y = case.add(op, &[x]);
        case.save(&name, &[y]);
    }
    let ops = [
        ("softmax", Op::Softmax),
        ("reshape", Op::Reshape(vec![6, 4])),
        ("transpose", Op::Transpose(vec![2, 0, 1])),
        ("slice", Op::Slice { begin: vec![0, 1, 1], size: vec![2, 2, 3] }),
        ("pad", Op::Pad(vec![[0, 1], [2, 0], [1, 1]])),
        ("tile", Op::Tile(vec![2, 1, 3])),
    ];
    for (name, op) in ops {
        let mut case = Case::new(float);
        let x = case.input(&[2, 3, 4]);
        let y = case.add(op, &[x]);
        case.save(&format!("op_{name}"), &[y]);
    }
    let mut case = Case::new(float);
    let (x, y, z) = (case.input(&[2, 3, 4]), case.input(&[2, 1, 4]), case.constant(&[2, 2, 4]));
    let all = case.add(Op::Concat(1), &[x, y, z]);
    case.save("op_concat", &[all]);
    let mut case = Case::new(float);
    let (x, table) = (case.input(&[5, 6]), case.constant(&[9, 6]));
    let ids = case.integers(&[4, 0, 0, 3]);
    let (y, z) = (case.add(Op::Gather, &[x, ids]), case.add(Op::Gather, &[table, ids]));
    case.save("op_gather", &[y, z]);
}

fn images(float: &DType) {
    let windows = [
        window(1, 1, [[0, 0], [0, 0]], 1),
        window(2, 1, [[1, 0], [1, 1]], 1),
        window(1, 2, [[1, 2], [0, 1]], 2),
        window(2, 3, [[2, 2], [1, 0]], 4),
    ];
    for (number, window) in windows.into_iter().enumerate() {
        for (is_input, name) in [(false, ""), (true, "_input_weight")] {
            let name = if number == 0 { name.to_owned() } else { format!("{name}-{number}") };
            let groups = window.groups;
            let mut case = Case::new(float);
            let x = case.input(&[2, 4, 9, 8]);
            let shape = [8, 4 / groups, 3, 2];
            let w = if is_input { case.input(&shape) } else { case.constant(&shape) };
            let b = if is_input { case.input(&[8]) } else { case.constant(&[8]) };
            let (y, z) =
                (case.add(Op::Conv(window), &[x, w, b]), case.add(Op::Conv(window), &[x, w]));
            case.save(&format!("op_conv{name}"), &[y, z]);
            let mut case = Case::new(float);
            let out = [
                window.positions(0, 9, 3).expect("rows"),
                window.positions(1, 8, 2).expect("columns"),
            ];
            let x = case.input(&[2, 8, out[0], out[1]]);
            let w = if is_input { case.input(&shape) } else { case.constant(&shape) };
            let y = case.add(Op::ConvTranspose { window, size: [9, 8] }, &[x, w]);
            case.save(&format!("op_conv_transpose{name}"), &[y]);
        }
    }
    let mut case = Case::new(float);
    let x = case.input(&[2, 3, 7, 6]);
    let op = Op::AvgPool { window: window(2, 1, [[1, 1], [0, 1]], 1), kernel: [3, 2] };
    let y = case.add(op, &[x]);
    case.save("op_avg_pool", &[y]);
}

fn codes(float: &DType) {
    let mut case = Case::new(float);
    let x = case.input(&[4, 6]);
    let coded = case.add(Op::Quantize(affine(&[0.0625], 3, None)), &[x]);
    let y = case.add(Op::Dequantize, &[coded]);
    case.save("op_quantize", &[y]);
    let by_channel = [0.01, 0.02, 0.005, 0.03, 0.015, 0.0125];
    let kinds = [("", affine(&[0.01], 5, None)), ("_by_channel", affine(&by_channel, 0, Some(0)))];
    for ((name, weights), newer) in
        kinds.into_iter().flat_map(|kind| [(kind.clone(), ""), (kind, "_ios18")])
    {
        let mut case = Case::new(float);
        let x = case.input(&[5, 7]);
        let w = case.decoded(&[6, 7], weights.clone());
        let image = case.input(&[1, 2, 5, 5]);
        let kernel = case.decoded(&[6, 2, 3, 3], weights);
        let mut outputs = vec![
            case.add(Op::Linear, &[x, w]),
            case.add(Op::Conv(window(1, 1, [[1, 1], [1, 1]], 1)), &[image, kernel]),
        ];
        if !newer.is_empty() {
            // What only iOS 18 has, so that weights are decoded by its own operation, too.
            let coded = case.add(Op::Quantize(affine(&[0.0625], 0, None)), &[x]);
            outputs.push(case.add(Op::Dequantize, &[coded]));
        }
        case.save(&format!("codes_i8{name}{newer}"), &outputs);
    }
}

/// Weights that were quantized in blocks are found to be, and written as codes.
fn blocks(float: &DType) {
    for (name, format) in [("q4_0", Format::Q4_0), ("q4_1", Format::Q4_1), ("q8_0", Format::Q8_0)] {
        let mut case = Case::new(float);
        let (x, turned) = (case.input(&[3, 64]), case.input(&[1, 3, 48]));
        let numbers = case.numbers(48 * 64, -1.0, 1.0);
        let bytes = case.bytes(&round_trip(format, &numbers));
        let w = case.graph.constant(case.ty(&[48, 64]), bytes.clone()).expect("a weight");
        let again = case.graph.constant(case.ty(&[1, 48, 64]), bytes).expect("a weight");
        let y = case.add(Op::Linear, &[x, w]);
        // Toward x: the same numbers.
        let dx = case.add(Op::MatMul { trans_a: false, trans_b: false }, &[turned, again]);
        let package = case.save(&format!("blocks_{name}"), &[y, dx]);
        let bits = if name == "q8_0" { 8 } else { 4 };
        let weights = package.join("Data/com.apple.CoreML/weights/weight.bin");
        let most = 2 * (48 * 64 * bits / 8 + 2 * 48 * 2 * 4) + 1024;
        assert!(fs::metadata(weights).expect("weights").len() < most, "{name}: not in {bits} bits");
    }
}

fn round_trip(format: Format, numbers: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; numbers.len()];
    let mut blocks = vec![0u64; numbers.len()];
    // SAFETY: eight bytes a number are more than any format takes; `out` has a place for each.
    unsafe {
        format.encode(Isa::PORTABLE, numbers.as_ptr(), numbers.len(), blocks.as_mut_ptr().cast());
        format.decode(Isa::PORTABLE, blocks.as_ptr().cast(), out.len(), out.as_mut_ptr());
    }
    out
}

/// What goes straight through, comes out twice, is constant, or is kept by the device.
fn ends(float: &DType) {
    let mut case = Case::new(float);
    let (x, y) = (case.input(&[3]), case.constant(&[20]));
    let z = case.add(Op::Unary(Unary::Neg), &[x]);
    case.save("ends", &[x, z, z, y]);
    if *float == DType::F16 {
        let mut case = Case::new(float);
        let (x, w) = (case.input(&[3, 4]), case.input(&[5, 4]));
        let y = case.add(Op::Linear, &[x, w]);
        case.graph.output(y);
        let options = Options { newest: Opset::Ios18, states: vec![1] };
        save("states", &case.graph, &case.inputs, &options);
    }
}

/// An engine that writes what it gets as packages, and evaluates it.
struct Recorder {
    name: Mutex<String>,
    count: AtomicUsize,
}

impl Engine for Recorder {
    fn describe(&self) -> Description {
        Description {
            bridge: "coreml",
            name: "packages".to_owned(),
            build: "0".to_owned(),
            level: Opset::Ios18.version(),
        }
    }

    fn supported(&self, graph: &Graph) -> Result<Vec<bool>> {
        Ok(graph.nodes().iter().map(|node| emit::takes(graph, node, Opset::Ios18)).collect())
    }

    fn compile(&self, graph: &Graph, _: &[u8; 32]) -> Result<Box<dyn Compiled>> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", self.name.lock().expect("a name"));
        Ok(Box::new(Recorded { graph: graph.clone(), name: Some(name) }))
    }
}

struct Recorded {
    graph: Graph,
    /// Until it has run once.
    name: Option<String>,
}

impl Compiled for Recorded {
    fn run(&mut self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<()> {
        if let Some(name) = self.name.take() {
            let options = Options { newest: Opset::Ios18, states: Vec::new() };
            save(&name, &self.graph, inputs, &options);
        }
        let given: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        for (to, from) in outputs.iter_mut().zip(evaluate(&self.graph, &given)?) {
            to.copy_from_slice(&from);
        }
        Ok(())
    }
}

/// The cases of all operators that the bridge takes, forward and backward, and the partitions of a step
/// of training.
#[test]
fn partitions() {
    fs::create_dir_all(folder()).expect("a folder");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("coreml");
    // SAFETY: no other test of this file reads the environment.
    unsafe { std::env::set_var("TENON_CACHE", cache) };
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(CpuOptions::default()).expect("the CPU"));
    let recorder = Arc::new(Recorder { name: Mutex::default(), count: AtomicUsize::new(0) });
    let options =
        NpuOptions { worth: Worth::ALL, most: usize::MAX, compare: false, ..NpuOptions::default() };
    let target = Target::CoreMl(Opset::Ios18.version());
    let backend: Arc<dyn Backend> =
        Arc::new(Npu::new(recorder.clone(), target, cpu.clone(), options));
    let rename = |name: String| *recorder.name.lock().expect("a name") = name;
    let mut failures = Vec::new();
    for check in checks() {
        let way = if check.direction == Direction::Forward { "forward" } else { "backward" };
        rename(format!("{way}_{}", check.entry.name));
        if let verdict @ (Verdict::Wrong(_) | Verdict::Failed(_)) = check.run(&backend, &cpu) {
            failures.push(format!("{} {way}: {verdict:?}", check.case.label()));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    rename("train_step".to_owned());
    let mut trainer = network(&[backend.clone(), cpu.clone()]).expect("a network");
    trainer.step(&mut ()).expect("a step");
    for precision in [Precision::F32, Precision::Int8] {
        rename(format!("train_adapters_{precision:?}").to_lowercase());
        let backends = [vec![backend.clone(), cpu.clone()], vec![cpu.clone()]];
        let [got, want] = backends.map(|backends| {
            let mut trainer = block(3, precision, 2e-2, &backends).expect("a block");
            [(); 2].map(|()| trainer.step(&mut ()).expect("a step").loss)
        });
        let far = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
        assert!(far < 1e-5, "{precision:?}: {got:?} instead of {want:?}");
    }
    let count = recorder.count.load(Ordering::Relaxed);
    report(&format!("Core ML: {count} packages of partitions in {}", folder().display()));
}

/// A small network on images.
fn network(backends: &[Arc<dyn Backend>]) -> Result<Trainer> {
    let mut graph = tenon_runtime::Graph::new();
    let mut weights = HashMap::new();
    let random = Philox::new(11, 0);
    let mut weight = |graph: &mut tenon_runtime::Graph, shape: &[usize]| {
        let name = format!("w{}", weights.len());
        let first = 1000 * weights.len() as u64;
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (first..).take(count).map(|at| 0.3 * random.normal(at)).collect();
        weights.insert(name.clone(), Tensor::from_slice(shape, &values)?);
        graph.parameter(&name, TensorDesc::f32(shape)?, true)
    };
    let x = graph.input("x", TensorDesc::f32(&[4, 1, 8, 8])?)?;
    let targets = graph.input("targets", TensorDesc::i32(&[4])?)?;
    let (w, b) = (weight(&mut graph, &[6, 1, 3, 3])?, weight(&mut graph, &[6])?);
    let x = graph.call("conv2d", &[("stride", 2usize.into())], &[x, w, b])?[0];
    let x = graph.call("gelu", &[], &[x])?[0];
    let x = graph.call("reshape", &[("shape", [4usize, 54][..].into())], &[x])?[0];
    let (scale, shift) = (weight(&mut graph, &[54])?, weight(&mut graph, &[54])?);
    let x = graph.call("layer_norm", &[], &[x, scale, shift])?[0];
    let (w, b) = (weight(&mut graph, &[5, 54])?, weight(&mut graph, &[5])?);
    let x = graph.call("linear", &[], &[x, w, b])?[0];
    let loss = graph.call("cross_entropy", &[], &[x, targets])?[0];
    let options =
        train::Options { schedule: Schedule::constant(1e-2), ..train::Options::default() };
    let mut trainer = Trainer::new(graph, loss, backends, &weights, options)?;
    let pixels: Vec<f32> = (0..256).map(|at| random.normal(90_000 + at)).collect();
    trainer.write("x", &pixels)?;
    trainer.write("targets", &[0, 3, 1, 4])?;
    Ok(trainer)
}
