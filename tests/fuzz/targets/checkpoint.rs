//! Checkpoints, whole and damaged, resumed by trainers of many kinds.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use tenon_fuzz::reach::{expect, reached};
use tenon_fuzz::{Chosen, Unstructured, damage, model, rarely, scratch};
use tenon_runtime::io::checkpoint::{self, Meta};
use tenon_runtime::train::{Options, Outer, Rounds, StateFormat, Trainer};
use tenon_runtime::{DType, Graph, Result, Shape, Tensor, TensorDesc};

fuzz_target!(
    init: expect(&["loaded", "resumed", "resumed from the one before"]),
    |data: &[u8]| {
        let _ = go(&mut Unstructured::new(data));
    }
);

/// Ways to train that keep different states.
const KINDS: usize = 4;

thread_local! {
    /// A trainer of each kind, and what it keeps.
    static TRAINERS: RefCell<Vec<(Trainer, Vec<(String, Tensor)>)>> = RefCell::new(
        (0..KINDS).map(|kind| trainer(kind).expect("a trainer")).collect()
    );
}

fn trainer(kind: usize) -> Result<(Trainer, Vec<(String, Tensor)>)> {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorDesc::f32(&[2, 3])?)?;
    let w = graph.parameter("w", TensorDesc::f32(&[4, 3])?, true)?;
    let mut y = graph.call("linear", &[], &[x, w])?[0];
    if kind == 1 {
        let desc = TensorDesc::f32(&[4])?;
        let (mean, variance) = (graph.state("m", desc.clone())?, graph.state("v", desc.clone())?);
        let (a, b) = (graph.parameter("a", desc.clone(), true)?, graph.parameter("b", desc, true)?);
        y = graph.call("batch_norm", &[], &[y, mean, variance, a, b])?[0];
    }
    let y = graph.call("square", &[], &[y])?[0];
    let loss = graph.call("reduce_mean", &[("axes", [0usize, 1][..].into())], &[y])?[0];
    let mut options = Options::default();
    match kind {
        2 => options.state = StateFormat::Int8,
        3 => {
            let outer = Some(Outer { lr: 0.5, momentum: 0.9 });
            options.rounds = Rounds { proximal: 0.1, control: true, outer };
            options.accumulation = 2;
        }
        _ => {}
    }
    let mut trainer = Trainer::new(graph, loss, &model::cpu(), &Default::default(), options)?;
    trainer.write("x", &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    let path = scratch::folder().join("whole");
    trainer.save(&path, "note")?;
    let saved = checkpoint::load(&path)?;
    let kept = saved.tensors().iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
    let mut kept: Vec<_> = kept.collect();
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    std::fs::remove_file(path).expect("it was written");
    Ok((trainer, kept))
}

/// A tensor of any small description.
fn tensor(u: &mut Unstructured<'_>) -> Chosen<Tensor> {
    let dtype = *u.choose(&[DType::F32, DType::F16, DType::I8, DType::I32, DType::U8])?;
    let dims = [u.int_in_range(0..=5)?, u.int_in_range(0..=5)?];
    let shape = Shape::new(&dims[..u.int_in_range(0..=2)?]).expect("a small shape");
    let desc = TensorDesc::new(dtype, shape).expect("a small tensor");
    Ok(Tensor::zeros(desc, &tenon_runtime::tensor::SystemAllocator).expect("memory"))
}

/// The bytes of a file that is nearly what a trainer has saved.
fn file(u: &mut Unstructured<'_>, kept: &[(String, Tensor)]) -> Chosen<Vec<u8>> {
    let mut kept = kept.to_vec();
    for _ in 0..u.int_in_range(0..=2)? {
        let at = u.choose_index(kept.len().max(1))?;
        match (u.int_in_range(0..=3)?, kept.get_mut(at)) {
            (0, Some(_)) => drop(kept.remove(at)),
            (1, Some((name, _))) => *name = u.arbitrary::<&str>()?.to_owned(),
            (2, Some((_, content))) => *content = tensor(u)?,
            _ => kept.push((u.arbitrary::<&str>()?.to_owned(), tensor(u)?)),
        }
    }
    for (_, tensor) in &kept {
        if rarely(u, 2)? && !tensor.storage().is_mapped() {
            let bytes = u.bytes(tensor.storage().len().min(u.len()))?;
            tensor.storage().write(0, bytes).expect("room");
        }
    }
    let step = if rarely(u, 8)? { u.arbitrary()? } else { u.int_in_range(0..=9)? };
    let meta = Meta { step, position: u.arbitrary::<&str>()?.to_owned() };
    let named: Vec<(&str, &Tensor)> = kept.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let path = scratch::folder().join("made");
    let mut bytes = match checkpoint::save(&path, &named, &meta) {
        Ok(()) => std::fs::read(&path).expect("it was written"),
        Err(_) => Vec::new(),
    };
    let _ = std::fs::remove_file(path);
    damage(u, &mut bytes)?;
    Ok(bytes)
}

/// Every bit that a trainer keeps, and its step.
fn state(trainer: &Trainer) -> (u64, Vec<u8>) {
    let mut all = Vec::new();
    for (_, tensor) in trainer.executor().persistent() {
        // SAFETY: nothing runs.
        all.extend_from_slice(unsafe { tensor.storage().bytes() }.expect("no device"));
    }
    (trainer.updates(), all)
}

fn go(u: &mut Unstructured<'_>) -> Chosen<()> {
    TRAINERS.with_borrow_mut(|trainers| {
        let at = u.choose_index(trainers.len())?;
        let (trainer, kept) = &mut trainers[at];
        let path = scratch::write("file", &file(u, kept)?);
        let previous = checkpoint::previous(&path);
        let _ = std::fs::remove_file(&previous);
        if rarely(u, 4)? {
            std::fs::write(&previous, file(u, kept)?).expect("a scratch file");
        }
        if checkpoint::load(&path).is_ok() {
            reached("loaded");
        }
        let before = state(trainer);
        match trainer.resume(&path) {
            Ok(resumed) => {
                reached(match resumed.damaged {
                    None => "resumed",
                    Some(_) => "resumed from the one before",
                });
                trainer.step(&mut ()).expect("a step after resuming");
            }
            Err(error) => {
                assert_eq!(before, state(trainer), "changed, in spite of: {error}");
            }
        }
        Ok(())
    })
}
