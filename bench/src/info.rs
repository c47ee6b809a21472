//! `tenon info`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tenon_kernels::Isa;
use tenon_kernels::quant::Format;
use tenon_runtime::Result;
use tenon_runtime::models::Model;

use crate::measure::human;
use crate::say;

/// Look around.
#[derive(Args, Debug)]
pub(crate) struct Info {
    /// A GGUF file or Hugging Face folder to describe.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(crate) fn run(&self) -> Result<()> {
        let facts = match &self.model {
            Some(path) => model(&Model::load(path)?),
            None => machine()?,
        };
        if self.json {
            say(&facts.to_string());
        } else if let Value::Object(facts) = facts {
            for (name, value) in facts {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                say(&format!("{name:22} {value}"));
            }
        }
        Ok(())
    }
}

fn machine() -> Result<Value> {
    let devices: Vec<String> = tenon_backends::all()?
        .iter()
        .map(|b| {
            let d = b.describe();
            format!("{}: {}, {}, {} threads", d.backend, d.name, d.level, d.parallelism)
        })
        .collect();
    let list = |names: Vec<&str>| names.join(" ");
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "devices": devices.join("; "),
        "instruction_sets": list(Isa::available().map(Isa::name).collect()),
        "weight_formats": list(Format::ALL.iter().map(|f| f.name()).collect()),
        "ops": list(tenon_runtime::ops::table().iter().map(|o| o.name).collect()),
    }))
}

fn model(model: &Model) -> Value {
    let c = &model.config;
    let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut weights, mut bytes) = (0, 0);
    for tensor in model.weights().values() {
        *formats.entry(tensor.desc().dtype().name()).or_default() += 1;
        weights += tensor.desc().numel();
        bytes += tensor.desc().bytes();
    }
    let formats: Vec<String> = formats.iter().map(|(f, n)| format!("{n} {f}")).collect();
    json!({
        "architecture": c.architecture,
        "weights": weights,
        "size": human(bytes),
        "tensors": formats.join(", "),
        "vocabulary": c.vocab,
        "layers": c.layers,
        "hidden": c.hidden,
        "intermediate": c.intermediate,
        "heads": format!("{} of {}, {} for keys and values", c.heads, c.head_dim, c.kv_heads),
        "longest_sequence": c.max_positions,
    })
}
