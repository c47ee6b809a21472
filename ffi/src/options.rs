//! Option structs as the runtime's options.

use tenon_kernels::gemm::Precision;
use tenon_runtime::Result;
use tenon_runtime::memory::Plan;
use tenon_runtime::models::{GraphOptions, Lora, Trains};
use tenon_runtime::train::{
    Clipping, Decay, Moments, Optimizer, Options, Outer, Privacy, Report, Rounds, Schedule,
    StateFormat,
};

use crate::abi;
use crate::convert::{choice, dtype, optional_string};
use crate::status::argument;
use crate::structs::options;

const DECAYS: &[(u32, Decay)] = &[
    (abi::TN_SCHEDULE_CONSTANT, Decay::Constant),
    (abi::TN_SCHEDULE_LINEAR, Decay::Linear),
    (abi::TN_SCHEDULE_COSINE, Decay::Cosine),
];

const PRECISIONS: &[(u32, Precision)] = &[
    (abi::TN_PRECISION_F32, Precision::F32),
    (abi::TN_PRECISION_BF16, Precision::Bf16),
    (abi::TN_PRECISION_INT8, Precision::Int8),
];

const STATES: &[(u32, StateFormat)] = &[
    (abi::TN_STATE_F32, StateFormat::F32),
    (abi::TN_STATE_BF16, StateFormat::Bf16),
    (abi::TN_STATE_INT8, StateFormat::Int8),
];

const CLIPPINGS: &[(u32, Clipping)] = &[
    (abi::TN_CLIP_EXACT, Clipping::Exact),
    (abi::TN_CLIP_TWO_PASS, Clipping::TwoPass),
    (abi::TN_CLIP_RUNNING, Clipping::Running),
];

/// `value`, or `default` where it is zero.
fn or<T: PartialEq + Default>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}

fn optimizer(given: &abi::tn_train_options) -> Result<Optimizer> {
    let moments = Moments {
        beta1: or(given.beta1, 0.9),
        beta2: or(given.beta2, 0.999),
        eps: or(given.eps, 1e-8),
        weight_decay: given.weight_decay,
    };
    let descent = Optimizer::Sgd {
        momentum: given.momentum,
        nesterov: given.nesterov != 0,
        weight_decay: given.weight_decay,
    };
    let choices = [
        (abi::TN_ADAMW, Optimizer::AdamW(moments)),
        (abi::TN_ADAM, Optimizer::Adam(moments)),
        (abi::TN_SGD, descent),
    ];
    choice(&choices, given.optimizer, "tn_optimizer")
}

/// A budget in bytes; 0 is none.
pub(crate) fn budget(given: u64) -> Result<Option<usize>> {
    let budget =
        usize::try_from(given).map_err(|_| argument("memory_budget is larger than memory"))?;
    Ok((budget > 0).then_some(budget))
}

/// How a session trains on batches of so many samples, where `given` does not say how many.
///
/// # Safety
/// As [`options`].
pub(crate) unsafe fn training(
    given: *const abi::tn_train_options,
    samples: usize,
) -> Result<Options> {
    // SAFETY: the caller's contract.
    let given = unsafe { options(given)? };
    if !(given.clip_norm >= 0.0 && given.clip_norm.is_finite()) {
        return Err(argument("clip_norm must be 0 or a positive number"));
    }
    Ok(Options {
        optimizer: optimizer(&given)?,
        state: choice(STATES, given.state, "tn_state")?,
        schedule: Schedule {
            lr: or(given.lr, 1e-3),
            warmup: given.warmup_steps,
            total: given.total_steps,
            decay: choice(DECAYS, given.schedule, "tn_schedule")?,
        },
        clip_norm: (given.clip_norm > 0.0).then_some(given.clip_norm),
        clipping: choice(CLIPPINGS, given.clipping, "tn_clipping")?,
        accumulation: or(given.accumulation, 1) as usize,
        keep_gradients: given.keep_gradients != 0,
        rounds: Rounds {
            proximal: given.proximal,
            control: given.control_variates != 0,
            outer: (given.outer_lr != 0.0 || given.outer_momentum != 0.0)
                .then_some(Outer { lr: given.outer_lr, momentum: given.outer_momentum }),
        },
        privacy: (given.sample_clip_norm != 0.0 || given.noise_multiplier != 0.0).then_some(
            Privacy {
                samples: or(given.samples as usize, samples),
                clip: given.sample_clip_norm,
                noise: given.noise_multiplier,
                seed: given.noise_seed,
            },
        ),
        memory_budget: budget(given.memory_budget)?,
        // SAFETY: the caller's contract.
        spill: unsafe { optional_string(given.spill_folder, "spill_folder")? }.map(Into::into),
        stage_inputs: given.stage_inputs != 0,
    })
}

/// Which adapters a model gets.
///
/// # Safety
/// The header's contract of `lora_targets`.
unsafe fn lora(given: &abi::tn_model_options) -> Result<Lora> {
    let mut lora = Lora::of_rank(or(given.lora_rank, 8) as usize);
    lora.alpha = or(given.lora_alpha, lora.alpha);
    // SAFETY: the caller's contract.
    if let Some(targets) = unsafe { optional_string(given.lora_targets, "lora_targets")? } {
        lora.targets = targets.split(',').map(|t| t.trim().to_owned()).collect();
    }
    Ok(lora)
}

/// How the graph of a model of so many layers is built, and the seed of what is new in it.
///
/// # Safety
/// As [`options`].
pub(crate) unsafe fn model(
    given: *const abi::tn_model_options,
    layers: usize,
) -> Result<(GraphOptions, u64)> {
    // SAFETY: the caller's contract.
    let given = unsafe { options(given)? };
    // SAFETY: the caller's contract.
    let lora = || Ok(Trains::Lora(unsafe { lora(&given)? }));
    let kinds: [(u32, &dyn Fn() -> Result<Trains>); 3] = [
        (abi::TN_TRAIN_LORA, &lora),
        (abi::TN_TRAIN_EVERYTHING, &|| Ok(Trains::Everything)),
        (abi::TN_TRAIN_NOTHING, &|| Ok(Trains::Nothing)),
    ];
    let trains = choice(&kinds, given.trains, "tn_trains")?()?;
    let (batch, seq) = (or(given.batch, 1) as usize, or(given.seq, 256) as usize);
    let mut options = GraphOptions::new(batch, seq, trains);
    options.precision = choice(PRECISIONS, given.precision, "tn_precision")?;
    options.logits = given.logits != 0;
    if (given.first_layer, given.end_layer) != (0, 0) {
        let end = or(given.end_layer as usize, layers);
        options.layers = Some(given.first_layer as usize..end);
    }
    // SAFETY: the caller's contract.
    if let Some(exits) = unsafe { optional_string(given.exits, "exits")? } {
        let number = |text: &str| {
            let bad = |_| argument(format!("`{text}` in exits is no number of layers"));
            text.trim().parse().map_err(bad)
        };
        options.exits = exits.split(',').map(number).collect::<Result<_>>()?;
    }
    options.wire = dtype(given.wire)?;
    Ok((options, given.seed))
}

/// A plan as its report.
pub(crate) fn plan(plan: &Plan) -> abi::tn_plan {
    abi::tn_plan {
        struct_size: size_of::<abi::tn_plan>(),
        nodes: plan.nodes().len() as u64,
        planned_peak_bytes: plan.peak_bytes() as u64,
        lower_bound_bytes: plan.lower_bound_bytes() as u64,
        arena_bytes: plan.arena_bytes() as u64,
        owned_bytes: plan.owned_bytes() as u64,
        plan_ms: plan.duration().as_secs_f64() * 1e3,
        recomputed_nodes: plan.recomputed() as u64,
        slowdown: plan.slowdown(),
        spilled_bytes: plan.spilled_bytes() as u64,
    }
}

/// What a step tells, as its report.
pub(crate) fn report(report: &Report) -> abi::tn_report {
    abi::tn_report {
        struct_size: size_of::<abi::tn_report>(),
        loss: report.loss,
        lr: report.lr,
        grad_norm: report.grad_norm.unwrap_or(0.0),
        unused: 0.0,
        step: report.step,
    }
}
