//! Whole training steps: small networks, and language models of several sizes.

use std::path::Path;

use tenon_bench::nets;
use tenon_kernels::gemm::Precision;
use tenon_runtime::Result;
use tenon_runtime::executor::Profile;
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, Trains};
use tenon_runtime::ops::Cost;
use tenon_runtime::tensor::SystemAllocator;
use tenon_runtime::train::{self, Optimizer, Trainer};

use super::row::{Ready, Row, Work};
use crate::options::small;
use crate::targets::Target;

/// A step to time.
#[derive(Clone, Debug)]
pub(crate) enum Step<'a> {
    /// A network by its description, and an optimizer by its name.
    Net(&'static str, &'static str, Optimizer),
    /// A language model.
    Language { name: &'static str, batch: usize, seq: usize, precision: Precision, lora: bool },
    /// One from a file.
    File { path: &'a Path, precision: Precision, lora: bool },
}

/// Every step to time; those of a model file, too.
pub(crate) fn steps(model: Option<&Path>) -> Vec<Step<'_>> {
    let mut all = Vec::new();
    for net in nets::NETS {
        all.extend(nets::optimizers().map(|(name, optimizer)| Step::Net(net, name, optimizer)));
    }
    for (name, batch, seq) in [("0.8M", 8, 128), ("24M", 1, 256)] {
        for precision in [Precision::F32, Precision::Bf16] {
            let of = |lora| Step::Language { name, batch, seq, precision, lora };
            all.extend([of(false), of(true)]);
        }
    }
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        all.extend(model.map(|path| Step::File { path, precision, lora: true }));
    }
    for precision in [Precision::F32, Precision::Bf16] {
        all.extend(model.map(|path| Step::File { path, precision, lora: false }));
    }
    all
}

/// How a language model trains, in words.
fn words(precision: Precision, lora: bool) -> (String, String) {
    let dtype = match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::Int8 => "int8",
    };
    (dtype.to_owned(), if lora { "lora r8" } else { "full" }.to_owned())
}

impl Step<'_> {
    /// What its row is of.
    pub(crate) fn named(&self) -> Row {
        let (shape, (dtype, attrs)) = match self {
            Self::Net(net, optimizer, _) => {
                ((*net).to_owned(), ("f32".to_owned(), (*optimizer).to_owned()))
            }
            Self::Language { name, batch, seq, precision, lora } => {
                (format!("llama {name} {batch}x{seq}"), words(*precision, *lora))
            }
            Self::File { path, precision, lora } => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (format!("{name} 1x256"), words(*precision, *lora))
            }
        };
        Row { kernel: "step".to_owned(), shape, dtype, attrs, ..Row::default() }
    }

    /// A trainer with a batch written, tokens or examples of a step, and its products' precision.
    fn trainer(&self, target: &Target) -> Result<(Trainer, usize, Precision)> {
        let backends = target.backends();
        let (model, batch, seq, precision, lora) = match *self {
            Self::Net(net, _, optimizer) => {
                let trainer = nets::trainer(net, optimizer, &backends)?;
                return Ok((trainer, nets::BATCH, Precision::F32));
            }
            Self::Language { name, batch, seq, precision, lora } => {
                let config = if name == "0.8M" { small() } else { medium() };
                (Model::random(config, 1, &SystemAllocator)?, batch, seq, precision, lora)
            }
            Self::File { path, precision, lora } => (Model::load(path)?, 1, 256, precision, lora),
        };
        let trains = if lora { Trains::Lora(Lora::of_rank(8)) } else { Trains::Everything };
        let mut options = GraphOptions::new(batch, seq, trains);
        options.precision = precision;
        let built = model.graph(&options)?;
        let parameters = model.parameters(&built.graph, 1, target.backend.allocator())?;
        let training = train::Options::default();
        let mut trainer = Trainer::new(built.graph, built.loss, &backends, &parameters, training)?;
        let vocabulary = model.config.vocab;
        let tokens: Vec<i32> = (0..batch * seq).map(|i| (i * 31 % vocabulary) as i32).collect();
        trainer.write("tokens", &tokens)?;
        trainer.write("targets", &tokens)?;
        Ok((trainer, batch * seq, precision))
    }

    /// It, ready to run.
    pub(crate) fn ready(&self, target: &Target) -> Result<Ready> {
        let (mut trainer, items, precision) = self.trainer(target)?;
        let mut profile = Profile::default();
        trainer.step(&mut profile)?;
        let costs = profile.spans().iter().map(|span| span.task.cost);
        let cost = costs.fold(Cost::default(), |sum, cost| Cost {
            flops: sum.flops + cost.flops,
            bytes: sum.bytes + cost.bytes,
        });
        Ok(Ready {
            work: Work { cost, precision, reads: false },
            under_roof: false,
            items: Some(items),
            picture: (precision == Precision::F32)
                .then(|| trainer.plan().svg("memory over a step")),
            allocated_bytes: trainer.plan().peak_bytes(),
            run: Box::new(move || trainer.step(&mut ()).map(|_| ())),
        })
    }
}

/// Six layers of SmolLM2-135M's widths and 8192 tokens.
fn medium() -> ModelConfig {
    ModelConfig {
        rope_theta: 100_000.0,
        max_positions: 8192,
        ..ModelConfig::llama(8192, [576, 1536], 6, [9, 3])
    }
}
