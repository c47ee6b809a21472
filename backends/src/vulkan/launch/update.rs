//! Optimizer steps.

use tenon_kernels::update::BLOCK;
use tenon_runtime::backend::Update;
use tenon_runtime::train::StateFormat;

use super::{Binding, Job, Place, ranges, read, update, word, write};
use crate::vulkan::shader::Shader;

/// The number of `finish.comp`'s kernel that puts three numbers in one buffer.
const COLLECT: u32 = 6;

/// What the shader is told.
#[derive(Default)]
struct Rule {
    kind: u32,
    /// Bits: 1 momentum, 2 Nesterov, 4 decoupled decay.
    flags: u32,
    stream: u32,
    /// Momentum, decay, beta1, beta2, eps, 1 - beta1, 1 - beta2, ln beta1, ln beta2.
    numbers: [f32; 9],
}

pub(super) fn launch(job: &mut Job<'_>, kind: &Update) -> Option<()> {
    let last = job.inputs.len() - 1;
    match *kind {
        Update::Accumulate => {
            let rule = Rule::default();
            let rate = job.inputs[2];
            run(job, &rule, StateFormat::F32, &[], [rate; 3])
        }
        Update::Sgd { momentum, nesterov, weight_decay, states } => {
            let has = momentum != 0.0;
            let flags = u32::from(has) | u32::from(nesterov) << 1;
            let numbers = [momentum, weight_decay, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
            let rule = Rule { kind: 1, flags, stream: states.stream, numbers };
            let format = if has { states.format } else { StateFormat::F32 };
            let (kept, next) = state(job, format, 2);
            let (kept, next) = if has { (kept, next) } else { (Vec::new(), 2) };
            // The step's number is there where it is needed.
            let step = if next + 2 <= last { next + 1 } else { next };
            let scalars = [next, step, last].map(|i| job.inputs[i]);
            run(job, &rule, format, &kept, scalars)
        }
        Update::Adam { moments, states, decoupled } => {
            let ln = |beta: f32| f64::from(beta).ln() as f32;
            let (beta1, beta2) = (moments.beta1, moments.beta2);
            let rests = [1.0 - beta1, 1.0 - beta2, ln(beta1), ln(beta2)];
            let [rest1, rest2, ln1, ln2] = rests;
            let decay = moments.weight_decay;
            let numbers = [0.0, decay, beta1, beta2, moments.eps, rest1, rest2, ln1, ln2];
            let flags = u32::from(decoupled) << 2;
            let rule = Rule { kind: 2, flags, stream: states.stream, numbers };
            let (mut kept, next) = state(job, states.format, 2);
            let (second, next) = state(job, states.format, next);
            kept.extend(second);
            let scalars = [next, next + 1, next + 2].map(|i| job.inputs[i]);
            run(job, &rule, states.format, &kept, scalars)
        }
    }
}

/// The operands of a state that begins with input `first`, and the input after it.
fn state(job: &Job<'_>, format: StateFormat, first: usize) -> (Vec<Place>, usize) {
    let count = if format == StateFormat::Int8 { 2 } else { 1 };
    (job.inputs[first..first + count].to_vec(), first + count)
}

fn run(
    job: &mut Job<'_>,
    rule: &Rule,
    format: StateFormat,
    states: &[Place],
    scalars: [Place; 3],
) -> Option<()> {
    let [rate, step, scale] = scalars;
    // Operands, with bytes of a block of each.
    let each = BLOCK * size_of::<f32>();
    let parameter = (update(job.inputs[0]), each);
    let mut operands = vec![parameter, (read(job.inputs[1]), each)];
    // A state that is not there repeats the parameter.
    let state = |i: usize, each| states.get(i).map_or(parameter, |&state| (update(state), each));
    let mut whole = Vec::new();
    let shader = if format == StateFormat::Int8 {
        operands.extend([state(0, BLOCK), state(2, BLOCK), state(1, 4), state(3, 4)]);
        let all = job.scratch(3);
        let collected = [read(rate), read(step), read(scale), write(all)];
        job.run(Shader::Finish, &[1, COLLECT], &[], &collected, 1)?;
        whole.push(read(all));
        Shader::UpdateBlocks
    } else {
        let bytes = if format == StateFormat::F32 { each } else { each / 2 };
        operands.extend([state(0, bytes), state(1, bytes)]);
        whole.extend([read(rate), read(step), read(scale)]);
        Shader::Update
    };
    let constants = [BLOCK as u32, rule.kind, format as u32, rule.flags];
    let n = job.input(0).numel();
    for range in ranges(n, most(job, n))? {
        // A piece begins at a line of every operand.
        let piece = |&(binding, each): &(Binding, usize)| {
            let rest = binding.place.from(range.start / BLOCK * each);
            let place = rest.first(rest.len.min(range.len().div_ceil(BLOCK) * each));
            Binding { place, ..binding }
        };
        let bindings: Vec<_> = operands.iter().map(piece).chain(whole.iter().copied()).collect();
        let mut params = vec![word(range.len())?, rule.stream];
        params.extend(rule.numbers.map(f32::to_bits));
        params.push(word(range.start)?);
        job.run(shader, &constants, &params, &bindings, range.len().div_ceil(BLOCK))?;
    }
    Some(())
}

/// Of `n` elements, how many bindings take at once: all, where they can.
fn most(job: &Job<'_>, n: usize) -> usize {
    // Scales, of which blocks have one, begin at lines, too.
    const WHOLE: usize = 16 * BLOCK;
    let is_whole = n * size_of::<f32>() <= job.limits.max_binding;
    if is_whole { n.max(1) } else { job.limits.piece() / size_of::<f32>() / WHOLE * WHOLE }
}
