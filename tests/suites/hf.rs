//! Hugging Face's tiny models: loss, logits and the gradient of every parameter, on the level that
//! `TENON_ISA` gives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tenon_runtime::backend::Backend;
use tenon_runtime::models::{GraphOptions, Model, Trains};
use tenon_runtime::train::Trainer;
use tenon_tests::bert;
use tenon_tests::device::elsewhere;
use tenon_tests::golden::{self, Array, report};
use tenon_tests::models::{feed, largest_error, lay_out, still, unmoving};

const NAMES: &[&str] = &["llama", "qwen2", "qwen3", "smollm3"];

/// Largest difference in any tensor, relative to the largest magnitude that the judge has in it.
/// Both sides sum in f32; 8e-7 is the most that was seen on any level.
const BOUND: f64 = 1e-5;

fn folder(test: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hf-{test}-{name}"))
}

/// How far a golden's answers are from Tenon's, by name.
fn errors(name: &str, folder: &Path, change: impl Fn(&str) -> String) -> Vec<(String, f64)> {
    let answers = lay_out(name, folder);
    let config = folder.join("config.json");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, change(&text)).expect("a configuration");

    let ids = &answers["input_ids"];
    let [batch, seq] = ids.dims[..] else { panic!("{name}: input_ids of rank 2") };
    let backends = tenon_backends::all().expect("backends");
    let model = Model::load(folder).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut options = GraphOptions::new(batch, seq, Trains::Everything);
    options.logits = true;
    let mut trainer = still(&model, &options, &backends).unwrap_or_else(|e| panic!("{name}: {e}"));
    feed(&mut trainer, &ids.ints(), seq).expect("the golden's tokens");
    judged(name, &mut trainer, &backends, &answers)
}

/// How far a step's answers are from a golden's. Which gradients there are must agree, and on a graphics
/// card nothing may run elsewhere.
fn judged(
    name: &str,
    trainer: &mut Trainer,
    backends: &[Arc<dyn Backend>],
    answers: &BTreeMap<String, Array>,
) -> Vec<(String, f64)> {
    if backends[0].describe().backend == "vulkan" {
        assert_eq!(
            elsewhere(trainer.graph(), trainer.plan()),
            [""; 0],
            "{name}: not on the device"
        );
        report(&format!("hf {name}: {} nodes, all on the device", trainer.plan().nodes().len()));
    }
    let told = trainer.step(&mut ()).unwrap_or_else(|e| panic!("{name}: {e}"));

    let trained: BTreeSet<String> =
        trainer.trainable().into_iter().map(|p| format!("grad/{p}")).collect();
    let judged: BTreeSet<String> =
        answers.keys().filter(|k| k.starts_with("grad/")).cloned().collect();
    assert_eq!(trained, judged, "{name}: what trains and what was judged");

    let mut errors =
        vec![("loss".to_owned(), largest_error(&[told.loss], &answers["loss"].floats()))];
    for key in judged.into_iter().chain(["logits".to_owned()]) {
        let got =
            trainer.executor().read_vec::<f32>(&key).unwrap_or_else(|e| panic!("{name}: {e}"));
        let want = &answers[&key].floats();
        let error = match key.strip_suffix("key.bias") {
            // A softmax does not see what is added to all keys: what both have is the rounding of a
            // sum that is 0, of terms as large as the weight's gradient has.
            Some(stem) => {
                let scale = answers[&format!("{stem}key.weight")].values.iter();
                let scale = scale.fold(0.0, |most: f64, v| most.max(v.abs()));
                let off = got.iter().chain(want).fold(0.0, |most: f64, v| most.max(v.abs().into()));
                if got.len() == want.len() { off / scale } else { f64::INFINITY }
            }
            None => largest_error(&got, want),
        };
        errors.push((key, error));
    }
    errors
}

/// As [`errors`], of the model that is built here and not loaded. Its loss is that of the tokens
/// themselves.
fn bert_errors(change: impl Fn(&str) -> String) -> Vec<(String, f64)> {
    let text = String::from_utf8(golden::bytes("hf/bert.json")).expect("a configuration");
    let config = serde_json::from_str(&change(&text)).expect("a configuration");
    let answers = golden::tensors("hf/bert.safetensors");
    let ids = &answers["input_ids"];
    let [batch, seq] = ids.dims[..] else { panic!("bert: input_ids of rank 2") };
    let backends = tenon_backends::all().expect("backends");
    let built = bert::build(&config, &answers, [batch, seq]).unwrap_or_else(|e| panic!("{e}"));
    let trainer = Trainer::new(built.graph, built.loss, &backends, &built.tensors, unmoving());
    let mut trainer = trainer.unwrap_or_else(|e| panic!("bert: {e}"));
    for input in ["tokens", "targets"] {
        trainer.write(input, &ids.ints()).expect("the golden's tokens");
    }
    judged("bert", &mut trainer, &backends, &answers)
}

#[test]
fn every_gradient_is_the_judges() {
    let mut failures = Vec::new();
    for name in NAMES.iter().chain(&["bert"]) {
        let errors = match *name {
            "bert" => bert_errors(str::to_owned),
            name => errors(name, &folder("judged", name), str::to_owned),
        };
        let of = |key: &str| errors.iter().find(|(k, _)| k == key).map_or(f64::NAN, |(_, e)| *e);
        let gradients = || errors.iter().filter(|(k, _)| k.starts_with("grad/"));
        let worst = gradients().max_by(|a, b| a.1.total_cmp(&b.1)).expect("gradients");
        report(&format!(
            "hf {name}: {} gradients, worst {:.1e} in {}; logits {:.1e}, loss {:.1e}",
            gradients().count(),
            worst.1,
            worst.0,
            of("logits"),
            of("loss"),
        ));
        let wrong = errors.iter().filter(|(_, e)| *e > BOUND);
        failures.extend(wrong.map(|(key, e)| format!("{name}: {key} is off by {e:.2e}")));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// A judge that accepts anything is none: each of these makes another model of the same weights.
#[test]
fn another_model_is_caught() {
    let changes = [
        ("llama", r#""rope_theta": 10000.0"#, r#""rope_theta": 9000.0"#),
        ("qwen2", r#""rms_norm_eps": 1e-06"#, r#""rms_norm_eps": 1e-04"#),
        ("smollm3", r#""no_rope_layers": [1, 1]"#, r#""no_rope_layers": [1, 0]"#),
    ];
    for (name, from, to) in changes {
        let change = |text: &str| {
            assert!(text.contains(from), "{name}: {from}");
            text.replace(from, to)
        };
        let errors = errors(name, &folder("changed", name), change);
        assert!(errors.iter().any(|(_, e)| *e > BOUND), "{name} with {to} passes");
    }
    let (from, to) = (r#""num_attention_heads": 4"#, r#""num_attention_heads": 8"#);
    let errors = bert_errors(|text| {
        assert!(text.contains(from), "bert: {from}");
        text.replace(from, to)
    });
    assert!(errors.iter().any(|(_, e)| *e > BOUND), "bert with {to} passes");
}
