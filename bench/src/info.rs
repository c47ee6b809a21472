//! `tenon info`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tenon_kernels::Isa;
use tenon_kernels::quant::Format;
use tenon_runtime::Result;
use tenon_runtime::models::Model;

use crate::bench::{machine, peaks::Peaks};
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
            for (name, value) in facts.iter().filter(|(_, value)| is_told(value)) {
                say(&format!(
                    "{:22} {}",
                    name.trim_end_matches("_bytes"),
                    machine::text(name, value)
                ));
            }
        }
        Ok(())
    }
}

/// Whether people are told of it in a line.
fn is_told(value: &Value) -> bool {
    !value.is_null() && !value.is_object()
}

/// The machine, its devices, and how fast they are: some tenths of a second are measured.
fn machine() -> Result<Value> {
    let devices: Vec<String> = tenon_backends::found()?
        .iter()
        .map(|b| {
            let d = b.describe();
            format!("{}: {}, {}, {} threads", d.backend, d.name, d.level, d.parallelism)
        })
        .collect();
    let list = |names: Vec<&str>| names.join(" ");
    let mut facts = machine::facts();
    let best = Isa::available().last().unwrap_or(Isa::PORTABLE);
    let peaks = Peaks::measure(best, 1)?;
    let more = json!({
        "devices": devices.join("; "),
        "levels": list(Isa::available().map(Isa::name).collect()),
        "one_thread": peaks.to_string(),
        "peaks": peaks,
        "energy": if machine::energy().is_some() { "counted" } else { "not told by the system" },
        "celsius": machine::heat(),
        "weight_formats": list(Format::ALL.iter().map(|f| f.name()).collect()),
        "ops": list(tenon_runtime::ops::table().iter().map(|o| o.name).collect()),
    });
    if let (Value::Object(facts), Value::Object(more)) = (&mut facts, more) {
        facts.extend(more);
    }
    Ok(facts)
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
