//! Options that `train` and `plan` share, and the model they make.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tenon_backends::cpu::{self, Cpu};
use tenon_runtime::backend::Backend;
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, RopeLayout, Trains};
use tenon_runtime::tensor::SystemAllocator;
use tenon_runtime::train::{self, Decay, Moments, Optimizer, Schedule};
use tenon_runtime::{Error, Result};

use crate::measure::{Counting, parse_size};

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
    #[arg(long, value_name = "N")]
    seq: Option<usize>,
    /// Sequences in a step.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Learning rate at its peak.
    #[arg(long, value_name = "X")]
    lr: Option<f32>,
    /// What matrix products round their operands to; sums are always f32.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: DTypeOption,
    /// Largest global norm of the gradient.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    clip: f32,
    /// Steps whose gradients are averaged before an update.
    #[arg(long, value_name = "N", default_value_t = 1)]
    accumulate: usize,
    /// Weight decay of AdamW.
    #[arg(long, value_name = "X", default_value_t = 0.01)]
    weight_decay: f32,
    /// Shape of the learning rate after warm-up.
    #[arg(long, value_enum, default_value = "constant")]
    schedule: ScheduleOption,
    /// Steps over which the learning rate rises.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// Most memory the plan may take, such as 300M or 2G.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory_budget: Option<usize>,
    /// Threads to work with; all cores by default. The result does not depend on it.
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Seed of weights and data order.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DTypeOption {
    F32,
    Bf16,
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
    /// The CPU, counted.
    pub(crate) fn machine(&self) -> Result<Machine> {
        let memory = Counting::default();
        let allocator: Arc<dyn tenon_runtime::tensor::Allocator> = Arc::new(memory.clone());
        let options = cpu::Options { threads: self.threads, isa: None, allocator: Some(allocator) };
        Ok(Machine { backends: vec![Arc::new(Cpu::new(options)?)], memory })
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
        self.seq.unwrap_or(if self.model.is_some() { 256 } else { 128 })
    }

    /// Sequences in a step.
    pub(crate) fn batch(&self) -> usize {
        self.batch.unwrap_or(if self.model.is_some() { 1 } else { 8 })
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
        options.bf16 = self.dtype == DTypeOption::Bf16;
        Ok(options)
    }

    /// How a run of `steps` updates.
    pub(crate) fn training(&self, steps: u64) -> Result<train::Options> {
        if !(self.clip > 0.0 && self.clip.is_finite()) {
            return Err(Error::Usage("--clip must be a number above 0".into()));
        }
        let lr = match (self.lr, &self.model, self.full) {
            (Some(lr), _, _) => lr,
            (None, None, _) => 3e-3,
            (None, Some(_), false) => 1e-3,
            (None, Some(_), true) => 5e-5,
        };
        let decay = match self.schedule {
            ScheduleOption::Constant => Decay::Constant,
            ScheduleOption::Linear => Decay::Linear,
            ScheduleOption::Cosine => Decay::Cosine,
        };
        let moments = Moments { weight_decay: self.weight_decay, ..Moments::default() };
        Ok(train::Options {
            optimizer: Optimizer::AdamW(moments),
            schedule: Schedule { lr, warmup: self.warmup, total: steps, decay },
            clip_norm: Some(self.clip),
            accumulation: self.accumulate,
            keep_gradients: false,
            memory_budget: self.memory_budget,
        })
    }

    /// What a checkpoint must have been made with for a run to continue from it; the number of
    /// steps may change only where no schedule counts on it.
    pub(crate) fn fingerprint(&self, steps: u64) -> Result<String> {
        let options = self.training(steps)?;
        let schedule = match options.schedule.decay {
            Decay::Constant => Schedule { total: 0, ..options.schedule },
            Decay::Linear | Decay::Cosine => options.schedule,
        };
        let options = train::Options { schedule, memory_budget: None, ..options };
        Ok(format!("{:?} {options:?} seed {}", self.graph()?, self.seed))
    }
}

/// The model that `tenon train` makes from nothing: bytes in, bytes out, 0.8 M weights.
pub(crate) fn small() -> ModelConfig {
    ModelConfig {
        architecture: "llama".to_owned(),
        vocab: 256,
        hidden: 128,
        intermediate: 384,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        rms_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_layout: RopeLayout::Half,
        rope_layers: Vec::new(),
        sliding_window: None,
        max_positions: 4096,
    }
}
