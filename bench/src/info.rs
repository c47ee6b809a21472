//! `tenon info`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};
use tenon_backends::Choice;
use tenon_backends::cpu::{Cpu, Options};
use tenon_kernels::Isa;
use tenon_kernels::quant::Format;
use tenon_runtime::Result;
use tenon_runtime::backend::{Backend, Device};
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
    let mut facts = machine::facts();
    let best = Isa::available().last().unwrap_or(Isa::PORTABLE);
    let peaks = Peaks::measure(best, 1)?;
    let more = json!({
        "one_thread": peaks.to_string(),
        "peaks": peaks,
        "energy": if machine::energy().is_some() { "counted" } else { "not told by the system" },
        "celsius": machine::heat(),
        "weight_formats": Format::ALL.iter().map(|f| f.name()).collect::<Vec<_>>(),
        "ops": tenon_runtime::ops::table().iter().map(|o| o.name).collect::<Vec<_>>(),
    });
    if let (Value::Object(facts), Value::Object(more)) = (&mut facts, more) {
        facts.extend(devices()?);
        facts.extend(more);
    }
    Ok(facts)
}

/// Every backend by name: its device, or why there is none.
fn devices() -> Result<Map<String, Value>> {
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(Options::default())?);
    let choices = Choice::NAMES.iter().filter(|(_, choice)| *choice != Choice::Auto);
    let devices = choices.map(|(name, choice)| {
        let mut wrong = Vec::new();
        let backends = choice.backends(cpu.clone(), None, &mut |what| wrong.push(what.to_owned()));
        let text = match backends.as_deref() {
            Ok([first, ..]) => {
                let Device { name, level, parallelism, .. } = first.describe();
                let found = format!("{name}, {level}, {parallelism} at once");
                std::iter::once(found).chain(wrong).collect::<Vec<_>>().join("; ")
            }
            Ok([]) => "none".to_owned(),
            Err(why) => format!("none: {why}"),
        };
        ((*name).to_owned(), Value::String(text))
    });
    Ok(devices.collect())
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
