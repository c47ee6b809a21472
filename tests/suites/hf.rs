//! Hugging Face's tiny models: loss, logits and the gradient of every parameter, on the level that
//! `TENON_ISA` gives.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tenon_runtime::models::{GraphOptions, Model, Trains};
use tenon_tests::golden::report;
use tenon_tests::models::{feed, largest_error, lay_out, still};

const NAMES: &[&str] = &["llama", "qwen2", "qwen3", "smollm3"];

/// Largest difference in any tensor, relative to the largest magnitude that the judge has in it.
/// Both sides sum in f32; 8e-7 is the most that was seen on any level.
const BOUND: f64 = 1e-5;

fn folder(test: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hf-{test}-{name}"))
}

/// How far a golden's answers are from Tenon's, by name. Which gradients there are must agree.
fn errors(name: &str, folder: &Path, change: impl Fn(&str) -> String) -> Vec<(String, f64)> {
    let answers = lay_out(name, folder);
    let config = folder.join("config.json");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, change(&text)).expect("a configuration");

    let ids = &answers["input_ids"];
    let [batch, seq] = ids.dims[..] else { panic!("{name}: input_ids of rank 2") };
    let backends = tenon_backends::all().expect("the CPU backend");
    let model = Model::load(folder).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut options = GraphOptions::new(batch, seq, Trains::Everything);
    options.logits = true;
    let mut trainer = still(&model, &options, &backends).unwrap_or_else(|e| panic!("{name}: {e}"));
    feed(&mut trainer, &ids.ints(), seq).expect("the golden's tokens");
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
        errors.push((key, largest_error(&got, want)));
    }
    errors
}

#[test]
fn every_gradient_is_the_judges() {
    let mut failures = Vec::new();
    for name in NAMES {
        let errors = errors(name, &folder("judged", name), str::to_owned);
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
}
