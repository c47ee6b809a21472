//! What is done with a model that was read.

use std::sync::{Arc, OnceLock};

use tenon_backends::cpu::{Cpu, Options as CpuOptions};
use tenon_kernels::gemm::Precision;
use tenon_runtime::backend::Backend;
use tenon_runtime::models::{GraphOptions, Lora, Model, Trains};
use tenon_runtime::train::{Options, Trainer};
use tenon_runtime::{DType, Result};

use crate::memory::{Bounded, MOST};
use crate::reach::reached;
use crate::{Chosen, Unstructured, rarely};

/// One thread with memory that ends.
///
/// # Panics
/// Where there is no CPU.
pub fn cpu() -> [Arc<dyn Backend>; 1] {
    static CPU: OnceLock<Arc<dyn Backend>> = OnceLock::new();
    let make = || -> Arc<dyn Backend> {
        let allocator = Some(Arc::new(Bounded::default()) as _);
        let threads = std::num::NonZero::new(1);
        Arc::new(Cpu::new(CpuOptions { threads, allocator, isa: None }).expect("the CPU"))
    };
    [CPU.get_or_init(make).clone()]
}

/// How a model's graph is built.
///
/// # Errors
/// None but those of reading choices.
pub fn graph_options(u: &mut Unstructured<'_>) -> Chosen<GraphOptions> {
    let trains = match u.int_in_range(0..=7)? {
        6 => Trains::Nothing,
        7 => Trains::Lora(Lora::of_rank(0)),
        even if even % 2 == 0 => Trains::Lora(Lora::of_rank(u.int_in_range(1..=4)?)),
        _ => Trains::Everything,
    };
    let mut options = GraphOptions::new(u.int_in_range(1..=2)?, u.int_in_range(1..=6)?, trains);
    options.precision = *u.choose(&[Precision::F32, Precision::Bf16, Precision::Int8])?;
    options.logits = rarely(u, 4)?;
    if rarely(u, 8)? {
        options.layers = Some(u.int_in_range(0..=2)?..u.int_in_range(0..=3)?);
        options.wire = *u.choose(&[DType::F32, DType::F16, DType::I8])?;
    }
    if rarely(u, 8)? {
        options.exits = vec![u.int_in_range(0..=3)?];
    }
    Ok(options)
}

/// Trains a model for a step and evaluates it. `allocator` gives its adapters.
///
/// # Errors
/// What the runtime says of the model.
pub fn train(model: &Model, options: &GraphOptions) -> Result<()> {
    let built = model.graph(options)?;
    let backends = cpu();
    let training = Options { clip_norm: Some(1.0), ..Options::default() };
    let (_, plan) = Trainer::plan_only(built.graph.clone(), built.loss, &backends, &training)?;
    reached("planned");
    if plan.peak_bytes() > MOST {
        return Ok(());
    }
    let parameters = model.parameters(&built.graph, 1, backends[0].allocator())?;
    let mut trainer = Trainer::new(built.graph, built.loss, &backends, &parameters, training)?;
    let tokens: Vec<i32> = (0..(options.batch * options.seq) as i32).collect();
    for input in ["tokens", "targets"] {
        if trainer.graph().find(input).is_some() {
            trainer.write(input, &tokens)?;
        }
    }
    if trainer.executor().has_wait() {
        trainer.forward(&mut ())?;
    }
    trainer.step(&mut ())?;
    reached("stepped");
    trainer.evaluate(&mut ())?;
    Ok(())
}
