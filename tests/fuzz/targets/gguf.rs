//! GGUF files: read, loaded as models, trained for a step.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tenon_fuzz::gguf::File;
use tenon_fuzz::reach::{expect, reached};
use tenon_fuzz::{Chosen, Unstructured, model, rarely, scratch};
use tenon_runtime::io::gguf::Gguf;
use tenon_runtime::models::Model;

fuzz_target!(
    init: expect(&["opened", "loaded", "planned", "stepped"]),
    |data: &[u8]| {
        let _ = go(&mut Unstructured::new(data));
    }
);

fn go(u: &mut Unstructured<'_>) -> Chosen<()> {
    let bytes = if rarely(u, 16)? { u.bytes(u.len())?.to_vec() } else { File::chosen(u)? };
    let path = scratch::write("model.gguf", &bytes);
    read(&path);
    let options = model::graph_options(u)?;
    if let Ok(model) = Model::load(&path) {
        reached("loaded");
        let _ = model::train(&model, &options);
    }
    if let Ok(model) = Model::empty(&path, model::cpu()[0].allocator()) {
        let _ = model::train(&model, &options);
    }
    Ok(())
}

/// Reads all that a file tells, and every byte of its tensors.
fn read(path: &Path) {
    let Ok(file) = Gguf::open(path) else { return };
    reached("opened");
    for (key, value) in file.metadata() {
        let _ = (value.to_string(), value.number(), file.str(key), file.usize(key));
        let _ = (file.f64(key), file.bool(key), file.strs(key), file.numbers(key));
    }
    for tensor in file.tensors() {
        let sum: u64 = tensor.bytes().iter().map(|&byte| u64::from(byte)).sum();
        std::hint::black_box(sum);
        if let Ok(whole) = tensor.tensor() {
            assert_eq!(whole.storage().len(), tensor.desc.bytes());
        }
    }
}
