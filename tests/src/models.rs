//! Whole models: made from goldens, trained without moving, compared with other programs' answers.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tenon_runtime::backend::Backend;
use tenon_runtime::models::{GraphOptions, Model};
use tenon_runtime::tensor::SystemAllocator;
use tenon_runtime::train::{Optimizer, Options, Schedule, Trainer};
use tenon_runtime::{Result, Tensor};

use crate::golden::{self, Array};

/// Target of a position that has none.
pub const IGNORED: i32 = -100;

/// Lays a Hugging Face golden out as a model's folder: its configuration, and its parameters as
/// the one file of weights. Gives everything else in the golden back.
///
/// # Panics
/// Where the golden is damaged or the folder cannot be written.
#[must_use]
pub fn lay_out(name: &str, folder: &Path) -> BTreeMap<String, Array> {
    std::fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    std::fs::write(folder.join("config.json"), golden::bytes(&format!("hf/{name}.json")))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut answers = golden::tensors(&format!("hf/{name}.safetensors"));
    let (mut weights, mut keys) = (Vec::new(), Vec::new());
    for (key, array) in &answers {
        if let Some(parameter) = key.strip_prefix("param/") {
            let bytes: Vec<u8> = array.floats().iter().flat_map(|v| v.to_le_bytes()).collect();
            weights.push((parameter.to_owned(), array.dims.clone(), bytes));
            keys.push(key.clone());
        }
    }
    let views = weights.iter().map(|(parameter, dims, bytes)| {
        let view = TensorView::new(Dtype::F32, dims.clone(), bytes);
        (parameter.as_str(), view.unwrap_or_else(|e| panic!("{name}: {e}")))
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    for key in keys {
        answers.remove(&key);
    }
    answers
}

/// A trainer that gives gradients and moves nothing: plain descent at rate 0. `replaced` are
/// parameters to start from instead of the model's own.
///
/// # Errors
/// What the runtime says of the model or its graph.
pub fn still(
    model: &Model,
    options: &GraphOptions,
    backends: &[Arc<dyn Backend>],
    replaced: HashMap<String, Tensor>,
) -> Result<Trainer> {
    let built = model.graph(options)?;
    let mut parameters = model.parameters(&built.graph, 1, &SystemAllocator)?;
    parameters.extend(replaced);
    let training = Options {
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        schedule: Schedule::constant(0.0),
        keep_gradients: true,
        ..Options::default()
    };
    Trainer::new(built.graph, built.loss, backends, &parameters, training)
}

/// Writes sequences of `seq` tokens, and as targets the token that follows each: the causal loss.
///
/// # Errors
/// Where the graph takes another number of tokens.
pub fn feed(trainer: &mut Trainer, tokens: &[i32], seq: usize) -> Result<()> {
    let targets: Vec<i32> = tokens
        .chunks(seq)
        .flat_map(|sequence| sequence[1..].iter().copied().chain([IGNORED]))
        .collect();
    trainer.write("tokens", tokens)?;
    trainer.write("targets", &targets)
}

/// Largest difference, relative to the largest magnitude of `want`; infinite where lengths differ
/// or a number is none.
#[must_use]
pub fn largest_error(got: &[f32], want: &[f32]) -> f64 {
    relative(got, want, |values| values.fold(0.0, |m, v| if v > m { v } else { m }))
}

fn relative(got: &[f32], want: &[f32], size: fn(&mut dyn Iterator<Item = f64>) -> f64) -> f64 {
    let finite = got.iter().chain(want).all(|v| v.is_finite());
    if got.len() != want.len() || !finite {
        return f64::INFINITY;
    }
    let differences = got.iter().zip(want).map(|(&g, &w)| (f64::from(g) - f64::from(w)).abs());
    let difference = size(&mut differences.into_iter());
    let whole = size(&mut want.iter().map(|&w| f64::from(w).abs()));
    // Where all that is wanted is 0, nothing else will do.
    if difference == 0.0 { 0.0 } else { difference / whole }
}
