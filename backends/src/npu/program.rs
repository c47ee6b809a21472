//! A part's steps, some of them as graphs on the accelerator, the rest on the CPU.
//!
//! The CPU has prepared all of them: it takes over wherever an accelerator fails, from the same
//! inputs, for what an accelerator makes is written only when all of it is there.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use half::f16;
use tenon_runtime::Result;
use tenon_runtime::backend::{Memory, Program};

use super::codes::coded;
use super::engine::Compiled;
use super::evaluate::evaluate;
use super::graph::Graph;
use super::op::DType;
use super::partition::{Checked, Place};
use super::trust::Trust;
use super::{Compute, Options, Shared};

/// Steps that run as one graph.
pub(super) struct Accelerated {
    pub(super) range: Range<usize>,
    /// Absent from when it failed.
    pub(super) compiled: Option<Box<dyn Compiled>>,
    pub(super) from: Vec<(Place, DType)>,
    pub(super) to: Vec<(Place, DType)>,
    pub(super) checked: Vec<Checked>,
    pub(super) inputs: Vec<Vec<u8>>,
    pub(super) outputs: Vec<Vec<u8>>,
    /// Whether it has been compared with the CPU.
    pub(super) is_known: bool,
    pub(super) trust: Trust,
    pub(super) calibration: Option<Calibration>,
    /// What is computed in codes, until its first run has been compared with it.
    pub(super) judge: Option<Graph>,
}

/// Ranges in the making, or made, of what is computed in codes.
pub(super) struct Calibration {
    /// The graph in f32.
    pub(super) graph: Graph,
    pub(super) forward: Vec<bool>,
    pub(super) maxima: Vec<f32>,
    /// Runs that measure still.
    pub(super) left: usize,
    /// The graph that measures, while that in codes runs.
    pub(super) measuring: Option<Box<dyn Compiled>>,
    /// How often it had been asked for when they were measured.
    pub(super) asked: usize,
}

/// See the [module](self).
pub(super) struct Mixed {
    pub(super) cpu: Box<dyn Program>,
    pub(super) accelerated: Vec<Accelerated>,
    /// Of each step, which of those it is of.
    pub(super) of: Vec<Option<usize>>,
    pub(super) shared: Arc<Shared>,
}

impl Program for Mixed {
    unsafe fn launch(&mut self, index: usize, memory: &Memory) -> Result<()> {
        let Some(number) = self.of.get(index).copied().flatten() else {
            // SAFETY: the caller's contract is the same.
            return unsafe { self.cpu.launch(index, memory) };
        };
        // All of them run with the last.
        if index + 1 < self.accelerated[number].range.end {
            return Ok(());
        }
        // SAFETY: the caller's contract.
        unsafe { self.run(number, memory) }
    }

    fn sync(&mut self) -> Result<()> {
        self.cpu.sync()
    }
}

impl Mixed {
    /// # Safety
    /// As [`Program::launch`].
    unsafe fn run(&mut self, number: usize, memory: &Memory) -> Result<()> {
        let this = &mut self.accelerated[number];
        this.recalibrate(&self.shared);
        let range = this.range.clone();
        // SAFETY: the caller's contract: operands of these steps lie inside their slots.
        if this.compiled.is_none() || !unsafe { this.gather(memory) } {
            // SAFETY: as above.
            return unsafe { self.on_cpu(range, memory) };
        }
        if !this.is_known {
            // The CPU's answer comes first, and stays.
            // SAFETY: as above; what goes to the accelerator has been gathered.
            unsafe { self.on_cpu(range.clone(), memory)? };
        }
        let this = &mut self.accelerated[number];
        let ran = match this.compiled.as_mut() {
            // The ranges come last, where they are measured.
            Some(compiled) => {
                let measures = this.calibration.as_ref().is_none_or(|c| c.left > 0);
                let count = if measures { this.outputs.len() } else { this.to.len() };
                compiled.run(&this.inputs, &mut this.outputs[..count])
            }
            None => Ok(()),
        };
        let is_first = !this.is_known;
        if ran.is_ok() && this.overflows() {
            // Half precision ends at 65504: the CPU computes these steps again, in f32.
            // SAFETY: as above.
            return if is_first { Ok(()) } else { unsafe { self.on_cpu(range, memory) } };
        }
        let wrong = match ran {
            Err(error) => Some(error.to_string()),
            // SAFETY: as above.
            Ok(()) if is_first => unsafe { this.compare(memory, &self.shared.options) },
            Ok(()) => None,
        };
        if let Some(why) = wrong {
            this.compiled = None;
            this.trust.bad(&why);
            self.shared.note(range.clone(), false, &why);
            // SAFETY: as above.
            return if is_first { Ok(()) } else { unsafe { self.on_cpu(range, memory) } };
        }
        if is_first {
            this.is_known = true;
            this.trust.works();
        } else {
            // SAFETY: as above.
            unsafe { this.scatter(memory) };
        }
        if let Err(why) = this.measure(&self.shared) {
            this.compiled = None;
            self.shared.note(range, false, &why);
        }
        Ok(())
    }

    /// # Safety
    /// As [`Program::launch`].
    unsafe fn on_cpu(&mut self, range: Range<usize>, memory: &Memory) -> Result<()> {
        for index in range {
            // SAFETY: the caller's contract.
            unsafe { self.cpu.launch(index, memory)? };
        }
        self.cpu.sync()
    }
}

/// The bytes of a place.
///
/// # Safety
/// As [`Program::launch`], for an operand of its steps; nothing writes them while the slice lives.
unsafe fn bytes<'a>(place: &Place, memory: &'a Memory) -> &'a [u8] {
    let at = memory.at(place.slot, place.offset).cast_const();
    // SAFETY: the caller's contract.
    unsafe { std::slice::from_raw_parts(at, place.desc.bytes()) }
}

impl Accelerated {
    /// Goes back to measuring, where that was asked for.
    fn recalibrate(&mut self, shared: &Shared) {
        let Some(calibration) = &mut self.calibration else { return };
        let asked = shared.asked.load(Ordering::Relaxed);
        if calibration.asked == asked {
            return;
        }
        calibration.asked = asked;
        calibration.left = shared.options.calibration.max(1);
        calibration.maxima.fill(0.0);
        if let Some(measuring) = calibration.measuring.take() {
            (self.compiled, self.is_known) = (Some(measuring), true);
        }
    }

    /// Takes what a run has measured; after the last, the graph in codes takes the place.
    fn measure(&mut self, shared: &Shared) -> std::result::Result<(), String> {
        let Some(calibration) = self.calibration.as_mut().filter(|c| c.left > 0) else {
            return Ok(());
        };
        let measured = &self.outputs[self.to.len()..];
        for (most, bytes) in calibration.maxima.iter_mut().zip(measured) {
            let words = bytes.as_chunks::<4>().0.iter();
            *most = words.fold(*most, |most, &word| most.max(f32::from_le_bytes(word)));
        }
        calibration.left -= 1;
        if calibration.left > 0 {
            return Ok(());
        }
        let graph = coded(&calibration.graph, &calibration.forward, &calibration.maxima);
        let graph = graph.map_err(|e| e.to_string())?;
        let ready = shared.compile(&graph)?;
        self.judge = Some(graph);
        calibration.measuring = self.compiled.replace(ready.compiled);
        (self.trust, self.is_known) = (ready.trust, ready.is_known);
        Ok(())
    }

    /// Whether some output in half precision is no number any more.
    fn overflows(&self) -> bool {
        let halves = self.to.iter().zip(&self.outputs).filter(|((_, ty), _)| *ty == DType::F16);
        let mut words = halves.flat_map(|(_, bytes)| bytes.as_chunks::<2>().0);
        words.any(|&word| !f16::from_le_bytes(word).is_finite())
    }

    /// Copies the inputs together; false where one has numbers that the graph must not see.
    ///
    /// # Safety
    /// As [`Program::launch`].
    unsafe fn gather(&mut self, memory: &Memory) -> bool {
        for ((place, dtype), to) in self.from.iter().zip(&mut self.inputs) {
            // SAFETY: an operand of the steps; nothing runs meanwhile.
            convert(unsafe { bytes(place, memory) }, dtype, to);
        }
        self.checked.iter().all(|check| {
            self.inputs[check.input].as_chunks::<4>().0.iter().all(|&b| {
                let number = i32::from_le_bytes(b);
                let is_inside = usize::try_from(number).is_ok_and(|n| n < check.bound);
                is_inside || check.ignore == Some(number)
            })
        })
    }

    /// Writes the outputs.
    ///
    /// # Safety
    /// As [`Program::launch`].
    unsafe fn scatter(&self, memory: &Memory) {
        for ((place, dtype), from) in self.to.iter().zip(&self.outputs) {
            let at = memory.at(place.slot, place.offset);
            // SAFETY: an output of the steps, which this call holds alone.
            let to = unsafe { std::slice::from_raw_parts_mut(at, place.desc.bytes()) };
            restore(from, dtype, to);
        }
    }

    /// What differs from what is in memory; from what its graph evaluates to where that is in codes,
    /// for which the CPU's answer is another.
    ///
    /// # Safety
    /// As [`Program::launch`].
    unsafe fn compare(&mut self, memory: &Memory, options: &Options) -> Option<String> {
        let judge = self.judge.take().map(|graph| {
            let inputs: Vec<&[u8]> = self.inputs.iter().map(Vec::as_slice).collect();
            evaluate(&graph, &inputs)
        });
        let judged = match judge.transpose() {
            Ok(judged) => judged,
            Err(error) => return Some(error.to_string()),
        };
        for (i, ((place, dtype), from)) in self.to.iter().zip(&self.outputs).enumerate() {
            let want = match &judged {
                Some(judged) => &judged[i],
                // SAFETY: an output of the steps; nothing runs meanwhile.
                None => unsafe { bytes(place, memory) },
            };
            let mut got = vec![0; want.len()];
            restore(from, dtype, &mut got);
            let is_float = place.desc.dtype() == tenon_runtime::DType::F32;
            let agrees = if is_float { agree(&got, want, options) } else { got == want };
            if !agrees {
                return Some(format!("{} differs from the CPU's", place.desc));
            }
        }
        None
    }
}

/// Whether f32 agree as far as what computed them lets them.
fn agree(got: &[u8], want: &[u8], options: &Options) -> bool {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    let (got, want) = (floats(got), floats(want));
    let pairs = || got.iter().zip(&want);
    let tolerance = options.tolerance();
    if options.compute == Compute::F32 {
        let largest = want.iter().filter(|v| v.is_finite()).fold(0f32, |m, v| m.max(v.abs()));
        let bound = tolerance * largest + 1e-6;
        let same = |g: f32, w: f32| g == w || g.is_nan() && w.is_nan() || (g - w).abs() <= bound;
        return pairs().all(|(&g, &w)| same(g, w));
    }
    let norm = |all: &mut dyn Iterator<Item = f32>| -> f64 {
        all.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
    };
    let far = norm(&mut pairs().map(|(g, w)| g - w));
    far <= f64::from(tolerance) * norm(&mut want.iter().copied()) + 1e-6
}

/// f32 as the graph's input has them; all else as it is.
fn convert(from: &[u8], dtype: &DType, to: &mut [u8]) {
    if *dtype != DType::F16 {
        to.copy_from_slice(from);
        return;
    }
    for (&word, to) in from.as_chunks::<4>().0.iter().zip(to.as_chunks_mut::<2>().0) {
        *to = f16::from_f32(f32::from_le_bytes(word)).to_le_bytes();
    }
}

/// And back.
fn restore(from: &[u8], dtype: &DType, to: &mut [u8]) {
    if *dtype != DType::F16 {
        to.copy_from_slice(from);
        return;
    }
    for (&word, to) in from.as_chunks::<2>().0.iter().zip(to.as_chunks_mut::<4>().0) {
        *to = f16::from_le_bytes(word).to_f32().to_le_bytes();
    }
}
