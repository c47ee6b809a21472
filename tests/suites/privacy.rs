//! Clipping of single samples against its plain statement: each sample run by itself, its gradient
//! clipped, the mean taken; and the noise against the generator's own numbers.

use std::collections::HashMap;

use tenon_kernels::random::Philox;
use tenon_runtime::check::Numbers;
use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, PROJECTIONS, Trains};
use tenon_runtime::ops::Attr;
use tenon_runtime::tensor::{DType, SystemAllocator, Tensor, TensorDesc};
use tenon_runtime::train::{Clipping, Optimizer, Options, Privacy, Rounds, Schedule, Trainer};
use tenon_runtime::{Error, Result};
use tenon_tests::golden::report;
use tenon_tests::models::{IGNORED, norm};

/// A graph of so many samples, its loss, and what it starts from.
type Built = (Graph, Option<ValueId>, HashMap<String, Tensor>);

/// What is written for samples `range`, by input.
enum Data {
    Floats(Vec<f32>),
    Ints(Vec<i32>),
}

struct Subject {
    name: &'static str,
    samples: usize,
    build: fn(usize) -> Result<Built>,
    /// The inputs of one sample.
    sample: fn(usize) -> Vec<(&'static str, Data)>,
}

struct Maker {
    g: Graph,
    tensors: HashMap<String, Tensor>,
}

impl Maker {
    fn new() -> Self {
        Self { g: Graph::new(), tensors: HashMap::new() }
    }

    fn parameter(&mut self, name: &str, dims: &[usize]) -> Result<ValueId> {
        let mut numbers = Numbers(name.bytes().fold(7, |h, b| h * 31 + u64::from(b)));
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| 0.5 * numbers.normal()).collect();
        self.tensors.insert(name.to_owned(), Tensor::from_slice(dims, &values)?);
        self.g.parameter(name, TensorDesc::f32(dims)?, true)
    }

    fn call(&mut self, op: &str, attrs: &[(&str, Attr)], inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.g.call(op, attrs, inputs)?[0])
    }

    fn done(self, loss: ValueId) -> Result<Built> {
        Ok((self.g, Some(loss), self.tensors))
    }
}

fn floats(len: usize, seed: u64) -> Data {
    let mut numbers = Numbers(seed);
    Data::Floats((0..len).map(|_| numbers.normal()).collect())
}

fn ints(len: usize, below: i32, seed: u64) -> Vec<i32> {
    let mut numbers = Numbers(seed);
    (0..len).map(|_| (numbers.uniform() * f64::from(below)) as i32).collect()
}

const POSITIONS: usize = 6;

/// Words through a table, norms, a scale, biases and a matrix that is used twice; targets of which
/// some are ignored, more in some samples.
fn text(batch: usize) -> Result<Built> {
    let mut m = Maker::new();
    let ids = m.g.input("ids", TensorDesc::i32(&[batch, POSITIONS])?)?;
    let targets = m.g.input("targets", TensorDesc::i32(&[batch * POSITIONS])?)?;
    let (table, w, b) =
        (m.parameter("table", &[9, 8])?, m.parameter("w", &[8, 8])?, m.parameter("b", &[8])?);
    let x = m.call("embedding", &[], &[table, ids])?;
    let (scale, shift) = (m.parameter("norm.w", &[8])?, m.parameter("norm.b", &[8])?);
    let x = m.call("layer_norm", &[], &[x, scale, shift])?;
    let once = m.call("linear", &[], &[x, w, b])?;
    let once = m.call("gelu", &[], &[once])?;
    let twice = m.call("linear", &[], &[once, w])?;
    let x = m.call("add", &[], &[x, twice])?;
    let gain = m.parameter("gain", &[8])?;
    let x = m.call("mul", &[], &[x, gain])?;
    let weight = m.parameter("rms", &[8])?;
    let x = m.call("rms_norm", &[], &[x, weight])?;
    let x = m.call("reshape", &[("shape", Attr::from(&[batch * POSITIONS, 8][..]))], &[x])?;
    let head = m.parameter("head", &[5, 8])?;
    let logits = m.call("linear", &[], &[x, head])?;
    let loss = m.call("cross_entropy", &[], &[logits, targets])?;
    m.done(loss)
}

fn text_sample(i: usize) -> Vec<(&'static str, Data)> {
    let mut targets = ints(POSITIONS, 5, 70 + i as u64);
    targets[..i % POSITIONS].fill(IGNORED);
    vec![("ids", Data::Ints(ints(POSITIONS, 9, 50 + i as u64))), ("targets", Data::Ints(targets))]
}

/// A convolution with a norm of groups, and one of depth.
fn images(batch: usize) -> Result<Built> {
    let mut m = Maker::new();
    let x = m.g.input("x", TensorDesc::f32(&[batch, 3, 8, 8])?)?;
    let y = m.g.input("y", TensorDesc::f32(&[batch, 4])?)?;
    let (w, b) = (m.parameter("conv.w", &[6, 3, 3, 3])?, m.parameter("conv.b", &[6])?);
    let x = m.call("conv2d", &[("padding", 1usize.into())], &[x, w, b])?;
    let x = m.call("group_norm", &[("groups", 2usize.into())], &[x])?;
    let scale = m.parameter("scale", &[1, 6, 1, 1])?;
    let x = m.call("mul", &[], &[x, scale])?;
    let x = m.call("relu", &[], &[x])?;
    let x = m.call("max_pool2d", &[("kernel", 2usize.into()), ("stride", 2usize.into())], &[x])?;
    let x = m.call("reshape", &[("shape", Attr::from(&[batch, 6 * 16][..]))], &[x])?;
    let head = m.parameter("head", &[4, 6 * 16])?;
    let x = m.call("linear", &[], &[x, head])?;
    let off = m.call("sub", &[], &[x, y])?;
    let square = m.call("square", &[], &[off])?;
    let loss = m.call("reduce_mean", &[], &[square])?;
    m.done(loss)
}

fn images_sample(i: usize) -> Vec<(&'static str, Data)> {
    vec![("x", floats(3 * 64, 10 + i as u64)), ("y", floats(4, 30 + i as u64))]
}

const SEQ: usize = 12;

/// Adapters of every projection of a small llama, which do not start at zero.
fn adapters(batch: usize) -> Result<Built> {
    let config = ModelConfig::llama(64, [32, 48], 2, [4, 2]);
    let model = Model::random(config, 3, &SystemAllocator)?;
    let targets = PROJECTIONS.iter().map(|&p| p.to_owned()).collect();
    let trains = Trains::Lora(Lora { rank: 4, alpha: 8.0, targets });
    let built = model.graph(&GraphOptions::new(batch, SEQ, trains))?;
    let mut tensors = model.parameters(&built.graph, 1, &SystemAllocator)?;
    let names: Vec<String> =
        tensors.keys().filter(|n| n.ends_with("lora_B.weight")).cloned().collect();
    for name in names {
        let desc = tensors[&name].desc().clone();
        let mut numbers = Numbers(name.bytes().fold(7, |h, b| h * 31 + u64::from(b)));
        let values: Vec<f32> = (0..desc.numel()).map(|_| 0.3 * numbers.normal()).collect();
        tensors.insert(name, Tensor::from_slice(desc.shape(), &values)?);
    }
    Ok((built.graph, built.loss, tensors))
}

fn adapters_sample(i: usize) -> Vec<(&'static str, Data)> {
    let mut targets = ints(SEQ, 64, 500 + i as u64);
    targets[..2 * i].fill(IGNORED);
    vec![("tokens", Data::Ints(ints(SEQ, 64, 400 + i as u64))), ("targets", Data::Ints(targets))]
}

const SUBJECTS: [Subject; 3] = [
    Subject { name: "text", samples: 4, build: text, sample: text_sample },
    Subject { name: "images", samples: 5, build: images, sample: images_sample },
    Subject { name: "adapters", samples: 3, build: adapters, sample: adapters_sample },
];

/// Copies of what a session would train.
fn copies(tensors: &HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let copy = |tensor: &Tensor| match tensor.desc().dtype() {
        DType::F32 => Tensor::from_slice(tensor.desc().shape(), &tensor.to_vec::<f32>()?),
        _ => Ok(tensor.clone()),
    };
    tensors.iter().map(|(name, tensor)| Ok((name.clone(), copy(tensor)?))).collect()
}

fn descent() -> Options {
    Options {
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        schedule: Schedule::constant(1.0),
        ..Options::default()
    }
}

fn trainer((graph, loss, tensors): Built, options: Options) -> Result<Trainer> {
    Trainer::new(graph, loss, &tenon_backends::all()?, &copies(&tensors)?, options)
}

/// Writes samples one after another.
fn write(
    trainer: &mut Trainer,
    sample: fn(usize) -> Vec<(&'static str, Data)>,
    range: std::ops::Range<usize>,
) -> Result<()> {
    let (mut floats, mut ints) = (HashMap::<_, Vec<f32>>::new(), HashMap::<_, Vec<i32>>::new());
    for (name, data) in range.flat_map(sample) {
        match data {
            Data::Floats(values) => floats.entry(name).or_default().extend(values),
            Data::Ints(values) => ints.entry(name).or_default().extend(values),
        }
    }
    floats.iter().try_for_each(|(name, values)| trainer.write(name, values))?;
    ints.iter().try_for_each(|(name, values)| trainer.write(name, values))
}

fn parameters(trainer: &Trainer) -> Vec<f32> {
    let names = trainer.trainable();
    names.iter().flat_map(|n| trainer.executor().read_vec::<f32>(n).expect("values")).collect()
}

/// The gradient of each sample by itself, over all that trains.
fn singly(subject: &Subject) -> Result<Vec<Vec<f32>>> {
    let options = Options { keep_gradients: true, schedule: Schedule::constant(0.0), ..descent() };
    let mut alone = trainer((subject.build)(1)?, options)?;
    let names = alone.trainable();
    let mut gradients = Vec::new();
    for i in 0..subject.samples {
        write(&mut alone, subject.sample, i..i + 1)?;
        alone.step(&mut ())?;
        let of = |name: &String| alone.executor().read_vec::<f32>(&format!("grad/{name}"));
        let all = names.iter().map(of).collect::<Result<Vec<_>>>()?;
        gradients.push(all.concat());
    }
    Ok(gradients)
}

/// The mean of clipped gradients, plainly.
fn clipped_mean(gradients: &[Vec<f32>], clip: f64) -> Vec<f64> {
    let mut mean = vec![0.0; gradients[0].len()];
    for gradient in gradients {
        let factor = (clip / (norm(gradient) + 1e-6)).min(1.0) / gradients.len() as f64;
        mean.iter_mut().zip(gradient).for_each(|(m, &g)| *m += factor * f64::from(g));
    }
    mean
}

/// How a session moves its parameters in one update over all samples.
fn moved(subject: &Subject, options: Options, micro: usize) -> Result<Vec<f64>> {
    let samples = subject.samples / micro;
    let mut trainer = trainer((subject.build)(samples)?, options)?;
    let before = parameters(&trainer);
    for i in 0..micro {
        write(&mut trainer, subject.sample, i * samples..(i + 1) * samples)?;
        trainer.step(&mut ())?;
    }
    let after = parameters(&trainer);
    Ok(before.iter().zip(&after).map(|(b, a)| f64::from(*b) - f64::from(*a)).collect())
}

/// The difference relative to the largest of what is wanted.
fn off(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
    got.iter().zip(want).fold(0f64, |m, (g, w)| m.max((g - w).abs())) / largest
}

fn privacy(samples: usize, clip: f64, noise: f32) -> Option<Privacy> {
    Some(Privacy { samples, clip: clip as f32, noise, seed: 0x1234_5678_9abc_def0 })
}

#[test]
fn clipping_is_that_of_samples_run_by_themselves() {
    for subject in &SUBJECTS {
        let gradients = singly(subject).expect("gradients");
        let mut norms: Vec<f64> = gradients.iter().map(|g| norm(g)).collect();
        norms.sort_by(f64::total_cmp);
        let largest = norms[norms.len() - 1];
        assert!(norms[0] < 0.95 * largest, "{}: {norms:?}", subject.name);
        // All are clipped, some, none.
        for clip in [norms[0] / 3.0, (norms[0] + largest) / 2.0, 2.0 * largest] {
            let want = clipped_mean(&gradients, clip);
            let options = Options { privacy: privacy(subject.samples, clip, 0.0), ..descent() };
            let got = moved(subject, options, 1).expect("an update");
            let error = off(&got, &want);
            report(&format!("privacy, {}: clip {clip:.3}: off by {error:.1e}", subject.name));
            // The update itself is rounded to the parameters' f32.
            assert!(error < 2e-5, "{}: clip {clip}: {error:.2e}", subject.name);
        }
    }
}

#[test]
fn it_goes_with_all_other_settings() {
    let subject = &SUBJECTS[0];
    let gradients = singly(subject).expect("gradients");
    let clip = norm(&gradients[0]);
    let want = clipped_mean(&gradients, clip);
    let length = want.iter().map(|v| v * v).sum::<f64>().sqrt();
    let of = |samples| Options { privacy: privacy(samples, clip, 0.0), ..descent() };
    // Two micro-batches of half the samples.
    let micro = Options { accumulation: 2, ..of(2) };
    let error = off(&moved(subject, micro, 2).expect("an update"), &want);
    assert!(error < 2e-5, "micro-steps: {error:.2e}");
    // The mean may be clipped too.
    for clipping in [Clipping::Exact, Clipping::TwoPass] {
        let halved = Options { clip_norm: Some(0.5 * length as f32), clipping, ..of(4) };
        let want: Vec<f64> = want.iter().map(|v| 0.5 * v).collect();
        let error = off(&moved(subject, halved, 1).expect("an update"), &want);
        assert!(error < 2e-5, "{clipping:?}: {error:.2e}");
    }
    let near = Options { rounds: Rounds { proximal: 1.0, ..Rounds::default() }, ..of(4) };
    let error = off(&moved(subject, near, 1).expect("an update"), &want);
    assert!(error < 2e-5, "proximal: {error:.2e}");
    // Within a budget what waits for the norms is made again.
    let adapters = &SUBJECTS[2];
    let plan = |budget| {
        let (graph, loss, _) = (adapters.build)(3)?;
        let privacy = privacy(3, 1.0, 1.0);
        let options = Options { privacy, memory_budget: budget, ..descent() };
        Ok(Trainer::plan_only(graph, loss, &tenon_backends::all()?, &options)?.1.peak_bytes())
    };
    let free = plan(None).expect("a plan");
    let Err(Error::Budget { needed, .. }) = plan(Some(1)) else { panic!("a byte is too little") };
    assert!(needed < free * 9 / 10, "{needed} of {free}");
    let options =
        |memory_budget| Options { privacy: privacy(3, 1.0, 1.0), memory_budget, ..descent() };
    let whole = moved(adapters, options(None), 1).expect("an update");
    let budget = Some((needed + free) / 2);
    assert_eq!(moved(adapters, options(budget), 1).expect("an update"), whole);
}

#[test]
fn noise_is_the_generators_and_can_be_replayed() {
    let subject = &SUBJECTS[0];
    let (clip, sigma, samples) = (0.5, 2.0f32, subject.samples);
    for micro in [1, 2] {
        let options = |noise| Options {
            accumulation: micro,
            privacy: privacy(samples / micro, clip, noise),
            ..descent()
        };
        let plain = moved(subject, options(0.0), micro).expect("an update");
        let noisy = moved(subject, options(sigma), micro).expect("an update");
        assert_eq!(moved(subject, options(sigma), micro).expect("again"), noisy);
        // Of the sum over all samples it is sigma times the clip norm; of the mean, a part of that.
        let deviation = f64::from(sigma) * clip / samples as f64;
        let built = trainer((subject.build)(samples).expect("a graph"), descent());
        let built = built.expect("a trainer");
        let (mut at, mut squares) = (0, 0.0);
        for (stream, name) in built.trainable().iter().enumerate() {
            let len = built.executor().desc(name).expect("a parameter").numel();
            let random = Philox::new(0x1234_5678_9abc_def0, 1 << 32 | stream as u64);
            for i in 0..len {
                let z = (noisy[at + i] - plain[at + i]) / deviation;
                let want = f64::from(random.normal(i as u64));
                assert!((z - want).abs() < 1e-4 * (1.0 + want.abs()), "{name}[{i}]: {z} {want}");
                squares += z * z;
            }
            at += len;
        }
        let spread = (squares / at as f64).sqrt();
        report(&format!("privacy: noise of {at} elements spreads by {spread:.3} of its deviation"));
        assert!((0.8..1.2).contains(&spread), "{spread}");
    }
}

#[test]
fn what_mixes_samples_is_refused() {
    let refused = |built: Result<Built>, options: Options, word: &str| {
        let error = trainer(built.expect("a graph"), options).map(|_| ()).expect_err("it mixes");
        assert!(error.to_string().contains(word), "{word}: {error}");
        error
    };
    let of = |samples| Options { privacy: privacy(samples, 1.0, 1.0), ..descent() };
    let normed = |kind: fn(&mut Maker, ValueId) -> Result<ValueId>| -> Result<Built> {
        let mut m = Maker::new();
        let x = m.g.input("x", TensorDesc::f32(&[4, 8])?)?;
        let w = m.parameter("w", &[8, 8])?;
        let x = m.call("linear", &[], &[x, w])?;
        let x = kind(&mut m, x)?;
        let loss = m.call("reduce_mean", &[], &[x])?;
        m.done(loss)
    };
    let batch_norm = normed(|m, x| {
        let x = m.call("reshape", &[("shape", Attr::from(&[4usize, 8, 1][..]))], &[x])?;
        m.call("batch_norm", &[("affine", false.into()), ("running", false.into())], &[x])
    });
    if let Ok(built) = batch_norm {
        let error = refused(Ok(built), of(4), "batch_norm");
        assert!(error.to_string().contains("freeze `w`"), "{error}");
    }
    // A softmax over the batch; a sum over it that comes back; samples beside each other.
    refused(
        normed(|m, x| {
            let x = m.call("transpose", &[("perm", Attr::from(&[1usize, 0][..]))], &[x])?;
            m.call("softmax", &[], &[x])
        }),
        of(4),
        "transpose",
    );
    refused(
        normed(|m, x| {
            let sum = m.call("reduce_sum", &[("axes", Attr::Ints(vec![0]))], &[x])?;
            m.call("mul", &[], &[x, sum])
        }),
        of(4),
        "reduce_sum",
    );
    refused(normed(|m, x| m.call("matmul", &[("trans_b", true.into())], &[x, x])), of(4), "matmul");
    // A loss that is no mean: its slope depends on all samples.
    refused(
        normed(|m, x| {
            let mean = m.call("reduce_mean", &[], &[x])?;
            m.call("exp", &[], &[mean])
        }),
        of(4),
        "reduce_mean",
    );
    // Rows of a parameter that are one sample's each: by themselves, and beside it.
    refused(
        normed(|m, x| {
            let rows = m.g.constant(Tensor::from_slice(&[4, 8], &[0.5f32; 32])?);
            let ids = m.g.constant(Tensor::from_slice(&[4], &[0i32, 1, 2, 3])?);
            let table = m.parameter("table", &[4, 8])?;
            let rows =
                m.call("embedding_grad", &[("rows", Attr::from(4usize))], &[rows, ids, table])?;
            m.call("mul", &[], &[x, rows])
        }),
        of(4),
        "embedding_grad",
    );
    refused(
        normed(|m, x| {
            let rows = m.parameter("rows", &[4, 8])?;
            m.call("add", &[], &[x, rows])
        }),
        of(4),
        "freeze `rows`",
    );
    // A weight that is made of another is not the samples' any more.
    let made = |batch: usize| -> Result<Built> {
        let mut m = Maker::new();
        let x = m.g.input("x", TensorDesc::f32(&[batch, 8])?)?;
        let w = m.parameter("w", &[8, 8])?;
        let w = m.call("tanh", &[], &[w])?;
        let x = m.call("linear", &[], &[x, w])?;
        let loss = m.call("reduce_mean", &[], &[x])?;
        m.done(loss)
    };
    refused(made(4), of(4), "matmul");
    refused(images(4), of(3), "no input has 3 samples");
    refused(text(4), of(0), "unusable");
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let privacy = Some(Privacy { samples: 4, clip: bad, noise: 1.0, seed: 1 });
        refused(text(4), Options { privacy, ..descent() }, "unusable");
    }
    let privacy = Some(Privacy { samples: 4, clip: 1.0, noise: -1.0, seed: 1 });
    refused(text(4), Options { privacy, ..descent() }, "unusable");
    refused(text(4), Options { keep_gradients: true, ..of(4) }, "no noise yet");
    let privacy = Some(Privacy { samples: 4, clip: 1.0, noise: 1.0, seed: 0 });
    refused(text(4), Options { privacy, ..descent() }, "draw one at random");
    // All of a language model: its head trains inside the loss.
    let config = ModelConfig::llama(64, [32, 48], 1, [4, 2]);
    let model = Model::random(config, 3, &SystemAllocator).expect("a model");
    let built = model.graph(&GraphOptions::new(4, SEQ, Trains::Everything)).expect("a graph");
    let tensors = model.parameters(&built.graph, 1, &SystemAllocator).expect("weights");
    refused(Ok((built.graph, built.loss, tensors)), of(4), "linear_cross_entropy");
    let mut options = GraphOptions::new(4, SEQ, Trains::Lora(Lora::of_rank(2)));
    let model = Model::random(ModelConfig::llama(64, [32, 48], 2, [4, 2]), 3, &SystemAllocator);
    options.layers = Some(0..1);
    let built = model.expect("a model").graph(&options).expect("a part");
    refused(Ok((built.graph, built.loss, HashMap::new())), of(4), "one session");
}
