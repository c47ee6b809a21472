//! Options that `train` and `plan` share, and the model they make.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tenon_backends::Choice;
use tenon_backends::cpu::{self, Cpu};
use tenon_kernels::gemm::Precision;
use tenon_runtime::backend::Backend;
use tenon_runtime::executor::Calibrated;
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, Trains};
use tenon_runtime::tensor::SystemAllocator;
use tenon_runtime::train::{self, Clipping, Decay, Moments, Optimizer, Schedule, StateFormat};
use tenon_runtime::{Error, Result};

use crate::measure::{Counting, parse_count, parse_size};
use crate::tell;

/// Which model, and how it trains.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A GGUF file or a Hugging Face folder; without it, a small model is trained from nothing.
    #[arg(long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    /// Train LoRA adapters of this rank (the default for a model given: 8).
    #[arg(long, value_name = "R", conflicts_with = "full")]
    lora: Option<usize>,
    /// Projections that get adapters.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "q_proj,v_proj")]
    lora_targets: Vec<String>,
    /// Train every weight, as f32.
    #[arg(long)]
    full: bool,
    /// Tokens in a sequence.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    seq: Option<NonZero<usize>>,
    /// Sequences in a step.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    batch: Option<NonZero<usize>>,
    /// Learning rate at its peak.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f32>,
    /// What matrix products round their operands to, int8 in blocks of 32 and with frozen weights
    /// only; sums are f32.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: DTypeOption,
    /// Largest global norm of the gradient.
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    clip: f32,
    /// How that norm is found: exact keeps all gradients until it is known; two-pass runs forward and
    /// backward twice, running takes the greater of the last step's norm and this one's so far, and
    /// neither keeps a gradient longer than its update takes.
    #[arg(long, value_enum, default_value = "exact")]
    clip_by: ClippingOption,
    /// Steps whose gradients are averaged before an update.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    accumulate: NonZero<usize>,
    /// Weight decay of AdamW.
    #[arg(long, value_name = "X", default_value_t = 0.01, allow_negative_numbers = true)]
    weight_decay: f32,
    /// How AdamW's moments are stored: bf16 takes a half and int8 about a quarter of f32's memory.
    #[arg(long, value_enum, default_value = "f32")]
    optimizer_state: StateOption,
    /// Shape of the learning rate after warm-up.
    #[arg(long, value_enum, default_value = "constant")]
    schedule: ScheduleOption,
    /// Steps over which the learning rate rises.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// Most memory the plan may take, such as 100M or 2G; what does not fit is made again instead of
    /// kept.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory_budget: Option<usize>,
    /// Folder for a file that the optimizer's states go to where the budget cannot be met otherwise.
    #[arg(long, value_name = "FOLDER", requires = "memory_budget")]
    spill: Option<PathBuf>,
    /// Measures the device first, some 10 ms, so that what is made again is what is quick to make
    /// here; the plan may differ a little from run to run, results never.
    #[arg(long, requires = "memory_budget")]
    calibrate: bool,
    /// Threads to work with; all cores by default. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    threads: Option<NonZero<usize>>,
    /// What to run on; auto is a graphics card where there is one, else the CPU.
    #[arg(long, value_enum, default_value = "cpu")]
    backend: BackendOption,
    /// Seed of weights and data order.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DTypeOption {
    F32,
    Bf16,
    Int8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendOption {
    Cpu,
    Vulkan,
    /// Android's accelerators, by NNAPI.
    Nnapi,
    /// Apple's accelerators, by Core ML.
    #[value(name = "coreml")]
    CoreMl,
    Auto,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateOption {
    F32,
    Bf16,
    Int8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClippingOption {
    Exact,
    TwoPass,
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScheduleOption {
    Constant,
    Linear,
    Cosine,
}

/// The backend a run uses, with a count of what it allocates.
pub(crate) struct Machine {
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    pub(crate) memory: Counting,
}

impl Options {
    /// The backends, counted.
    pub(crate) fn machine(&self) -> Result<Machine> {
        let memory = Counting::default();
        let allocator: Arc<dyn tenon_runtime::tensor::Allocator> = Arc::new(memory.clone());
        let counted = Some(allocator.clone());
        let options = cpu::Options { threads: self.threads, isa: None, allocator: counted };
        let choice = match self.backend {
            BackendOption::Cpu => Choice::Cpu,
            BackendOption::Vulkan => Choice::Vulkan,
            BackendOption::Nnapi => Choice::Nnapi,
            BackendOption::CoreMl => Choice::CoreMl,
            BackendOption::Auto => Choice::Auto,
        };
        let mut warn = |warning: &str| tell(&format!("warning: {warning}"));
        let cpu = Arc::new(Cpu::new(options)?);
        let mut backends = choice.backends(cpu, Some(allocator), &mut warn)?;
        if self.calibrate {
            backends = Calibrated::all(backends)?;
        }
        Ok(Machine { backends, memory })
    }

    /// The model: from its file, or the small one.
    pub(crate) fn load(&self) -> Result<Model> {
        match &self.model {
            Some(path) => Model::load(path),
            None => Model::random(small(), self.seed, &SystemAllocator),
        }
    }

    /// Tokens in a sequence.
    pub(crate) fn seq(&self) -> usize {
        self.seq.map_or(if self.model.is_some() { 256 } else { 128 }, NonZero::get)
    }

    /// Sequences in a step.
    pub(crate) fn batch(&self) -> usize {
        self.batch.map_or(if self.model.is_some() { 1 } else { 8 }, NonZero::get)
    }

    /// How the model's graph is built.
    pub(crate) fn graph(&self) -> Result<GraphOptions> {
        let rank = self.lora.or((self.model.is_some() && !self.full).then_some(8));
        let trains = match rank {
            Some(rank) => {
                let lora = Lora { targets: self.lora_targets.clone(), ..Lora::of_rank(rank) };
                lora.check()?;
                Trains::Lora(lora)
            }
            None => Trains::Everything,
        };
        let mut options = GraphOptions::new(self.batch(), self.seq(), trains);
        options.precision = match self.dtype {
            DTypeOption::F32 => Precision::F32,
            DTypeOption::Bf16 => Precision::Bf16,
            DTypeOption::Int8 => Precision::Int8,
        };
        Ok(options)
    }

    /// How a run of `steps` updates.
    pub(crate) fn training(&self, steps: u64) -> Result<train::Options> {
        for (name, value) in [("clip", Some(self.clip)), ("lr", self.lr)] {
            if value.is_some_and(|v| !(v > 0.0 && v.is_finite())) {
                return Err(Error::Usage(format!("--{name} must be a number above 0")));
            }
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Error::Usage("--weight-decay must be a number from 0 up".into()));
        }
        // What is new starts far from its aim; what was trained before only moves a little.
        let usual = if self.model.is_some() && self.full { 5e-5 } else { 3e-3 };
        let lr = self.lr.unwrap_or(usual);
        let decay = match self.schedule {
            ScheduleOption::Constant => Decay::Constant,
            ScheduleOption::Linear => Decay::Linear,
            ScheduleOption::Cosine => Decay::Cosine,
        };
        let moments = Moments { weight_decay: self.weight_decay, ..Moments::default() };
        Ok(train::Options {
            optimizer: Optimizer::AdamW(moments),
            state: match self.optimizer_state {
                StateOption::F32 => StateFormat::F32,
                StateOption::Bf16 => StateFormat::Bf16,
                StateOption::Int8 => StateFormat::Int8,
            },
            schedule: Schedule { lr, warmup: self.warmup, total: steps, decay },
            clip_norm: Some(self.clip),
            clipping: match self.clip_by {
                ClippingOption::Exact => Clipping::Exact,
                ClippingOption::TwoPass => Clipping::TwoPass,
                ClippingOption::Running => Clipping::Running,
            },
            accumulation: self.accumulate.get(),
            memory_budget: self.memory_budget,
            spill: self.spill.clone(),
            ..train::Options::default()
        })
    }

    /// What the losses of a run of `steps` are a function of, as option and value. Threads and
    /// budgets are not: they change no bit. Nor is the number of steps where no schedule counts
    /// on it.
    pub(crate) fn settings(&self, steps: u64) -> Result<Vec<(&'static str, String)>> {
        let (graph, training) = (self.graph()?, self.training(steps)?);
        let schedule = training.schedule;
        let mut settings = vec![
            ("seq", graph.seq.to_string()),
            ("batch", graph.batch.to_string()),
            ("dtype", format!("{:?}", self.dtype).to_lowercase()),
            ("lr", schedule.lr.to_string()),
            ("warmup", schedule.warmup.to_string()),
            ("schedule", format!("{:?}", schedule.decay).to_lowercase()),
            ("clip", self.clip.to_string()),
            ("clip-by", format!("{:?}", training.clipping).to_lowercase()),
            ("accumulate", self.accumulate.to_string()),
            ("weight-decay", self.weight_decay.to_string()),
            ("optimizer-state", training.state.name().to_owned()),
            ("seed", self.seed.to_string()),
        ];
        match graph.trains {
            Trains::Lora(lora) => {
                settings.push(("lora", lora.rank.to_string()));
                settings.push(("lora-targets", lora.targets.join(",")));
            }
            _ => settings.push(("full", "true".to_owned())),
        }
        if schedule.decay != Decay::Constant {
            settings.push(("steps", steps.to_string()));
        }
        Ok(settings)
    }
}

/// The model that `tenon train` makes from nothing: bytes in, bytes out, 0.8 M weights.
pub(crate) fn small() -> ModelConfig {
    ModelConfig::llama(256, [128, 384], 4, [4, 2])
}
