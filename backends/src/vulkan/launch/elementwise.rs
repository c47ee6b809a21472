//! Functions of one to three operands, with broadcasting, and chains of them.

use tenon_kernels::binary::Binary;
use tenon_kernels::fused::{Instruction, Operation, Source};
use tenon_kernels::unary::Unary;
use tenon_runtime::DType;

use super::broadcast::{self, Part};
use super::{Binding, Job, LANES, MAX_PARAMS, Place, read, word, write};
use crate::vulkan::shader::Shader;

/// Operands that the shader takes.
const OPERANDS: usize = 7;
/// Those of a single function.
const SINGLE: usize = 3;
/// Instructions that it takes.
const LENGTH: usize = 16;
/// Elements of an invocation.
const EACH: usize = 4;
/// The source that is the first register.
const REGISTERS: u32 = 8;
/// The source that is 0.
const ZERO: u32 = 15;

/// An instruction in the shader's coding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    function: u32,
    parameters: [f32; 2],
    sources: [u32; 3],
    to: u32,
}

/// `apply`'s number of a function.
fn unary_code(op: Unary) -> (u32, [f32; 2]) {
    match op {
        Unary::Neg => (1, [0.0; 2]),
        Unary::Abs => (2, [0.0; 2]),
        Unary::Square => (3, [0.0; 2]),
        Unary::Recip => (4, [0.0; 2]),
        Unary::Sqrt => (5, [0.0; 2]),
        Unary::Rsqrt => (6, [0.0; 2]),
        Unary::Affine { mul, add } => (7, [mul, add]),
        Unary::Clamp { lo, hi } => (8, [lo, hi]),
        Unary::PowScalar { exponent } => (9, [exponent, 0.0]),
        Unary::Floor => (10, [0.0; 2]),
        Unary::Trunc => (11, [0.0; 2]),
        Unary::Round => (12, [0.0; 2]),
        Unary::Sign => (13, [0.0; 2]),
        Unary::Exp => (14, [0.0; 2]),
        Unary::Log => (15, [0.0; 2]),
        Unary::Sin => (16, [0.0; 2]),
        Unary::Cos => (17, [0.0; 2]),
        Unary::Tanh => (18, [0.0; 2]),
        Unary::Sigmoid => (19, [0.0; 2]),
        Unary::Erf => (20, [0.0; 2]),
        Unary::Relu => (21, [0.0; 2]),
        Unary::Silu => (22, [0.0; 2]),
        Unary::Softplus => (23, [0.0; 2]),
        Unary::Gelu => (24, [0.0; 2]),
        Unary::GeluTanh => (25, [0.0; 2]),
    }
}

/// `apply`'s number of a function.
fn binary_code(op: Binary) -> u32 {
    match op {
        Binary::Add => 32,
        Binary::Sub => 33,
        Binary::Mul => 34,
        Binary::Div => 35,
        Binary::Pow => 36,
        Binary::Max => 37,
        Binary::Min => 38,
        Binary::Lt => 39,
        Binary::Le => 40,
        Binary::Gt => 41,
        Binary::Ge => 42,
        Binary::Eq => 43,
        Binary::Ne => 44,
        Binary::SiluMul => 45,
        Binary::ReluGrad => 46,
        Binary::GeluGrad => 47,
        Binary::GeluTanhGrad => 48,
        Binary::SiluGrad => 49,
        Binary::TanhGrad => 50,
        Binary::SigmoidGrad => 51,
    }
}

/// `apply`'s number of select.
const SELECT: u32 = 64;

impl Code {
    fn new(function: u32, operands: usize) -> Self {
        let sources = std::array::from_fn(|i| if i < operands { i as u32 } else { ZERO });
        Self { function, parameters: [0.0; 2], sources, to: 0 }
    }

    fn of(instruction: &Instruction) -> Self {
        let source = |s: &Source| match *s {
            Source::Input(i) => i as u32,
            Source::Register(r) => REGISTERS + r as u32,
        };
        let (function, parameters) = match instruction.operation {
            Operation::Unary(op, _) => unary_code(op),
            Operation::Binary(op, _) => (binary_code(op), [0.0; 2]),
            Operation::Select(_) => (SELECT, [0.0; 2]),
        };
        let mut sources = [ZERO; 3];
        for (to, from) in sources.iter_mut().zip(instruction.operation.sources()) {
            *to = source(from);
        }
        Self { function, parameters, sources, to: instruction.to as u32 }
    }

    fn words(&self) -> [u32; 3] {
        let [a, b, c] = self.sources;
        let code = self.function | a << 8 | b << 12 | c << 16 | self.to << 20;
        let [first, second] = self.parameters;
        [code, first.to_bits(), second.to_bits()]
    }
}

/// `apply`'s number of a function of one operand.
pub(super) fn function(op: Unary) -> u32 {
    unary_code(op).0
}

/// The functions that a dispatch of these specialization constants computes.
pub(super) fn functions(constants: &[u32]) -> impl Iterator<Item = u32> {
    constants[4..].chunks_exact(3).map(|words| words[0] & 0xff)
}

/// How an operand's elements meet those of the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    One,
    Same,
    Strides,
}

pub(super) fn unary(job: &mut Job<'_>, op: Unary) -> Option<()> {
    let (function, parameters) = unary_code(op);
    chain(job, &[Code { parameters, ..Code::new(function, 1) }])
}

/// `op` of each element of output 0, in its place.
pub(super) fn activate(job: &mut Job<'_>, op: Unary) -> Option<()> {
    let (function, parameters) = unary_code(op);
    let (code, y) = (Code { parameters, ..Code::new(function, 1) }, job.outputs[0]);
    run(job, &[code], &[Mode::Same], &[read(y)], y)
}

pub(super) fn binary(job: &mut Job<'_>, op: Binary) -> Option<()> {
    chain(job, &[Code::new(binary_code(op), 2)])
}

pub(super) fn select(job: &mut Job<'_>) -> Option<()> {
    chain(job, &[Code::new(SELECT, 3)])
}

pub(super) fn fused(job: &mut Job<'_>, program: &[Instruction]) -> Option<()> {
    chain(job, &program.iter().map(Code::of).collect::<Vec<_>>())
}

/// Fills `to` with a value.
pub(super) fn fill(job: &mut Job<'_>, to: Place, value: f32) -> Option<()> {
    let (function, _) = unary_code(Unary::Affine { mul: 0.0, add: 0.0 });
    let code = Code { parameters: [0.0, value], ..Code::new(function, 0) };
    run(job, &[code], &[], &[], to)
}

/// Copies words.
pub(super) fn copy(job: &mut Job<'_>, from: Place, to: Place) -> Option<()> {
    run(job, &[Code::new(0, 1)], &[Mode::Same], &[read(from)], to)
}

/// Runs a chain on the job's operands.
fn chain(job: &mut Job<'_>, codes: &[Code]) -> Option<()> {
    let count = job.signature.inputs.len();
    let f32s = job.signature.inputs.iter().all(|d| d.dtype() == DType::F32);
    if !f32s || job.output(0).dtype() != DType::F32 {
        return None;
    }
    let shape = job.output(0).shape();
    let mode = |i: usize| match job.input(i) {
        d if d.numel() == 1 => Mode::One,
        d if d.shape() == shape => Mode::Same,
        _ => Mode::Strides,
    };
    let modes: Vec<Mode> = (0..count).map(mode).collect();
    let bindings: Vec<Binding> = (0..count).map(|i| job.reads(i)).collect();
    if count > OPERANDS {
        return cut(job, codes, &modes, &bindings);
    }
    run(job, codes, &modes, &bindings, job.outputs[0])
}

/// Whether a source is an operand.
fn is_operand(source: u32) -> bool {
    source < REGISTERS
}

/// A chain of more operands than the shader takes, as two: the first makes the one number that the
/// second needs of it.
fn cut(job: &mut Job<'_>, codes: &[Code], modes: &[Mode], bindings: &[Binding]) -> Option<()> {
    let used = |part: &[Code]| {
        let mut used: Vec<u32> = part.iter().flat_map(|code| code.sources).collect();
        used.retain(|&source| is_operand(source));
        used.sort_unstable();
        used.dedup();
        used
    };
    // Registers that the instructions from `at` on read of those before.
    let passed = |at: usize| {
        let (mut passed, mut made) = (Vec::new(), Vec::new());
        for code in &codes[at..] {
            let read = code.sources.iter().filter(|&&s| !is_operand(s) && s != ZERO);
            passed.extend(read.map(|s| s - REGISTERS).filter(|r| !made.contains(r)));
            made.push(code.to);
        }
        passed
    };
    // A single function takes its operands in order, so there are two on either side.
    let at = (2..codes.len().saturating_sub(1)).find(|&at| {
        let fits = used(&codes[..at]).len() <= OPERANDS && used(&codes[at..]).len() < OPERANDS;
        fits && passed(at).iter().all(|register| *register == codes[at - 1].to)
    })?;
    let between = job.scratch(job.outputs[0].len / 4);
    let (from, to) = codes.split_at(at);
    for (part, target) in [(from, between), (to, job.outputs[0])] {
        let operands = used(part);
        let carried = operands.len() as u32;
        let mut is_made = std::ptr::eq(part, from);
        let renumbered = part.iter().map(|code| {
            let mut code = *code;
            for source in &mut code.sources {
                match operands.binary_search(source) {
                    Ok(place) => *source = place as u32,
                    Err(_) if !is_made && *source == REGISTERS + from[at - 1].to => {
                        *source = carried;
                    }
                    Err(_) => {}
                }
            }
            is_made |= code.to == from[at - 1].to;
            code
        });
        let renumbered: Vec<Code> = renumbered.collect();
        let mut inputs: Vec<Binding> = operands.iter().map(|&i| bindings[i as usize]).collect();
        let mut lie: Vec<Mode> = operands.iter().map(|&i| modes[i as usize]).collect();
        if target == job.outputs[0] {
            inputs.push(read(between));
            lie.push(Mode::Same);
        }
        run(job, &renumbered, &lie, &inputs, target)?;
    }
    Some(())
}

fn run(
    job: &mut Job<'_>,
    codes: &[Code],
    modes: &[Mode],
    inputs: &[Binding],
    to: Place,
) -> Option<()> {
    let operands = if codes.len() > 1 { OPERANDS } else { SINGLE };
    if modes.len() > operands || codes.len() > LENGTH {
        return None;
    }
    let elements = to.len / 4;
    // What no binding takes is made by pieces, where all operands lie alike.
    let most = job.limits.piece() / 64 * 16;
    if to.len > job.limits.max_binding && most > 0 && !modes.contains(&Mode::Strides) {
        return (0..elements).step_by(most).try_for_each(|first| {
            let piece = |place: Place| place.from(first * 4).first(most.min(elements - first) * 4);
            let input = |(binding, mode): (&Binding, &Mode)| match mode {
                Mode::Same => Binding { place: piece(binding.place), ..*binding },
                _ => *binding,
            };
            let inputs: Vec<_> = inputs.iter().zip(modes).map(input).collect();
            run(job, codes, modes, &inputs, piece(to))
        });
    }
    let dims = if modes.contains(&Mode::Strides) {
        broadcast::dims(job, modes.len())?
    } else {
        Vec::new()
    };
    let whole = Part { dims, inputs: inputs.to_vec(), to };
    whole.cut(job.limits)?.iter().try_for_each(|part| dispatch(job, codes, modes, part))
}

/// Makes a part of a result that bindings take.
fn dispatch(job: &mut Job<'_>, codes: &[Code], modes: &[Mode], part: &Part) -> Option<()> {
    let Part { dims, inputs, to } = part;
    let (is_chain, elements) = (codes.len() > 1, to.len / 4);
    let mut params = vec![word(elements)?];
    params.extend(dims.iter().flatten().map(|&n| word(n)).collect::<Option<Vec<u32>>>()?);
    if params.len() > MAX_PARAMS || is_chain && !dims.is_empty() {
        return None;
    }
    let coded = modes.iter().enumerate().fold(0, |all, (i, &mode)| all | (mode as u32) << (2 * i));
    let mut constants = vec![LANES, coded, dims.len() as u32, codes.len() as u32];
    constants.extend(codes.iter().flat_map(Code::words));
    if !is_chain {
        constants[4] |= (modes.len() as u32) << 20;
    }
    let mut bindings = inputs.clone();
    // The result comes last; operands that are not there repeat another.
    let operands = if is_chain { OPERANDS } else { SINGLE };
    bindings.resize(operands, inputs.first().copied().unwrap_or(read(*to)));
    bindings.push(write(*to));
    let groups = elements.div_ceil(EACH * LANES as usize);
    let shader = if is_chain { Shader::Chain } else { Shader::Elementwise };
    job.run(shader, &constants, &params, &bindings, groups)
}
