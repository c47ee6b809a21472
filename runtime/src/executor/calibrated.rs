//! Estimates of time from what a device was seen to do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::Executor;
use crate::backend::{Backend, Device, Launch, Outcome, Part, Program, Signature, Speed};
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::{Attr, Cost};
use crate::tensor::{Allocator, TensorDesc};

/// Rows and columns of the products that are timed: a third of a millisecond on a fast core, ten on a
/// slow one.
const SIDE: usize = 256;
/// Elements of each operand of the sum that is timed: beyond second-level caches, within a phone's
/// memory beside anything.
const ELEMENTS: usize = 512 << 10;
/// Runs of each; the fastest counts.
const RUNS: usize = 4;

/// A backend whose estimates ([`Backend::seconds`]) are of rates measured once, in some 5 to 100 ms,
/// rather than of fixed ones. What is run again for want of memory then is what is quick to run on
/// this device; and where rates come out otherwise, so may the plan, though never a bit of a result.
pub struct Calibrated {
    backend: Arc<dyn Backend>,
    speed: Speed,
}

impl Calibrated {
    /// Measures a backend.
    ///
    /// # Errors
    /// What its launches report; [`crate::Error::OutOfMemory`].
    pub fn new(backend: Arc<dyn Backend>) -> Result<Self> {
        let matrix = TensorDesc::f32(&[SIDE, SIDE])?;
        let flops = 2.0 * (SIDE * SIDE * SIDE) as f64;
        let product = |precision: &str| {
            let attrs = [("trans_b", true.into()), ("precision", precision.into())];
            Ok(flops / seconds(&backend, "matmul", &attrs, &matrix)?)
        };
        let products = [product("f32")?, product("bf16")?, product("int8")?];
        let vector = TensorDesc::f32(&[ELEMENTS])?;
        let bytes = 3.0 * vector.bytes() as f64 / seconds(&backend, "add", &[], &vector)?;
        Ok(Self { speed: Speed { bytes, products }, backend })
    }

    /// Measures each of several.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn all(backends: Vec<Arc<dyn Backend>>) -> Result<Vec<Arc<dyn Backend>>> {
        let calibrated = |backend| Ok(Arc::new(Self::new(backend)?) as Arc<dyn Backend>);
        backends.into_iter().map(calibrated).collect()
    }

    /// What was measured.
    #[must_use]
    pub fn speed(&self) -> Speed {
        self.speed
    }
}

/// The time of an op on two operands.
fn seconds(
    backend: &Arc<dyn Backend>,
    op: &str,
    attrs: &[(&str, Attr)],
    desc: &TensorDesc,
) -> Result<f64> {
    let mut graph = Graph::new();
    let operands = [graph.input("a", desc.clone())?, graph.input("b", desc.clone())?];
    let result = graph.call(op, attrs, &operands)?[0];
    graph.set_output("result", result)?;
    let mut run = Executor::new(graph, std::slice::from_ref(backend), &HashMap::new())?;
    let mut fastest = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        run.run(&mut ())?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(fastest.max(1e-9))
}

impl Backend for Calibrated {
    fn describe(&self) -> Device {
        self.backend.describe()
    }

    fn allocator(&self) -> &dyn Allocator {
        self.backend.allocator()
    }

    fn supports(&self, signature: Signature<'_>) -> bool {
        self.backend.supports(signature)
    }

    fn workspace(&self, signature: Signature<'_>) -> usize {
        self.backend.workspace(signature)
    }

    fn seconds(&self, launch: &Launch, cost: Cost) -> f64 {
        self.speed.seconds(launch, cost)
    }

    fn has_mirrors(&self) -> bool {
        self.backend.has_mirrors()
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.backend.outcomes()
    }

    fn loss_scale(&self) -> f32 {
        self.backend.loss_scale()
    }

    fn runs_whole(&self) -> bool {
        self.backend.runs_whole()
    }

    fn compile(&self, part: Part<'_>) -> Result<Box<dyn Program>> {
        self.backend.compile(part)
    }

    fn compile_all(&self, parts: Vec<Part<'_>>) -> Result<Vec<Box<dyn Program>>> {
        self.backend.compile_all(parts)
    }
}
