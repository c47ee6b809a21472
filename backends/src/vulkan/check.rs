//! The check on a device's first use: phone drivers return wrong answers silently.
//!
//! Each kernel runs in the first case of the op table that it serves, against a reference. One above the
//! baseline that is wrong takes its tier with it, and those it stood in for are checked in their turn; one
//! of the baseline is not used, and what it served runs elsewhere. What was found is kept by driver.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tenon_runtime::backend::{Backend, Launch, Signature};
use tenon_runtime::check::{Check, Direction, Verdict, checks, make};
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::Graph;
use tenon_runtime::{Error, Result, Tensor, TensorDesc};

use super::launch::{Dispatch, Kernel};
use super::shader::Shader;
use super::tier::{Tier, Tiers};
use super::{Context, Vulkan, indices, launch};
use crate::cache::{File, sum};

/// What a device is trusted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// The tiers in use.
    pub(super) tiers: Tiers,
    /// Kernels that are not used.
    pub(super) wrong: Vec<Kernel>,
}

/// The search for indices out of range.
const SEARCH: Kernel = (Shader::Check, Vec::new());

/// A kernel's name: its shader's, and after colons its constants.
fn name((shader, constants): &Kernel) -> String {
    constants.iter().fold(shader.name().to_owned(), |name, constant| format!("{name}:{constant}"))
}

/// The kernel of a [`name`].
fn of_name(name: &str) -> Option<Kernel> {
    let mut parts = name.split(':');
    let shader = parts.next()?;
    let shader = Shader::ALL.iter().copied().find(|s| s.name() == shader)?;
    Some((shader, parts.map(|part| part.parse().ok()).collect::<Option<_>>()?))
}

impl Vulkan {
    /// Checks every shader in use against `reference`, unless that was done before with this driver and
    /// these shaders. Gives what is wrong, and is used no more.
    ///
    /// # Errors
    /// [`Error::Device`] where the device fails altogether.
    pub fn self_check(&self, reference: &Arc<dyn Backend>) -> Result<Vec<String>> {
        let context = &self.context;
        let file = File::new("vulkan", "checked", context.device.facts.driver);
        let offered = context.tiers();
        if let Some(known) = file.read().and_then(|bytes| Checked::decode(&bytes, offered)) {
            context.trust(known);
            return Ok(Vec::new());
        }
        let this: Arc<dyn Backend> = Arc::new(self.clone());
        let (mut warnings, mut seen) = (Vec::new(), HashSet::new());
        loop {
            let tiers = context.tiers();
            for check in checks().filter(|check| check.direction == Direction::Forward) {
                warnings.extend(context.check(&check, [&this, reference], &mut seen)?);
            }
            // Without a tier others serve the cases that came before.
            if context.tiers() == tiers {
                break;
            }
        }
        if !finds_indices(&[this, reference.clone()])? {
            warnings.push(context.distrust_indices());
        }
        file.write(&context.trusted().encode(offered));
        Ok(warnings)
    }

    /// The tiers whose shaders serve a check's op here.
    ///
    /// # Errors
    /// What making its operands reports.
    pub fn uses(&self, check: &Check) -> Result<Tiers> {
        let kernels = self.context.kernels(check)?.unwrap_or_default();
        Ok(kernels.iter().map(|(shader, _)| shader.tier()).fold(Tiers::default(), Tiers::with))
    }
}

impl Checked {
    /// What a file must begin with to be of these shaders.
    fn head(offered: Tiers) -> String {
        let words = Shader::ALL.iter().flat_map(|shader| shader.spirv());
        let bytes = words.flat_map(u32::to_le_bytes);
        format!("{:016x} {offered}", sum(bytes))
    }

    fn encode(&self, offered: Tiers) -> Vec<u8> {
        let wrong: Vec<_> = self.wrong.iter().map(name).collect();
        let lines = [Self::head(offered), self.tiers.to_string(), wrong.join(" ")];
        lines.join("\n").into_bytes()
    }

    fn decode(bytes: &[u8], offered: Tiers) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split('\n');
        if lines.next()? != Self::head(offered) {
            return None;
        }
        let tiers = Tiers::from_names(lines.next()?);
        let wrong = lines.next()?.split_whitespace().map(of_name).collect::<Option<_>>()?;
        Some(Self { tiers, wrong })
    }
}

impl Context {
    /// Runs a case on a device and a reference, if it needs kernels that have not been `seen` right.
    /// What is wrong may be so in several ways: until it passes, or is not claimed.
    fn check(
        &self,
        check: &Check,
        [device, reference]: [&Arc<dyn Backend>; 2],
        seen: &mut HashSet<Kernel>,
    ) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        while let Some(kernels) = self.kernels(check)?.filter(|k| !k.is_subset(seen)) {
            let said = match check.run(device, reference) {
                Verdict::Passed(_) | Verdict::Skipped => {
                    seen.extend(kernels);
                    break;
                }
                Verdict::Wrong(excess) => format!("{excess:.1} times the error it may have"),
                Verdict::Failed(error @ Error::OutOfMemory(_)) => return Err(error),
                Verdict::Failed(error) => error.to_string(),
            };
            self.device.check_lost()?;
            let name = &self.device.facts.name;
            let lost = self.distrust(&kernels, seen);
            warnings.push(format!("{name} gets {} wrong ({said}): {lost}", check.case.label()));
        }
        Ok(warnings)
    }

    /// The kernels that a check's op runs; `None` where it is not claimed.
    fn kernels(&self, check: &Check) -> Result<Option<HashSet<Kernel>>> {
        let graph = make(&check.case, check.seed)?.graph;
        let mut kernels = HashSet::new();
        for node in graph.nodes() {
            let descs =
                |ids: &[_]| -> Vec<&TensorDesc> { ids.iter().map(|&v| graph.desc(v)).collect() };
            let (inputs, outputs) = (descs(&node.inputs), descs(&node.outputs));
            let launch = &node.op.launch(&inputs, &outputs);
            let signature = Signature { launch, inputs: &inputs, outputs: &outputs };
            if *launch == Launch::Alias {
                continue;
            }
            let Some(plan) = self.claimed(signature) else { return Ok(None) };
            kernels.extend(plan.dispatches.iter().flat_map(Dispatch::kernels));
        }
        Ok(Some(kernels))
    }

    /// A launch as dispatches, unless it needs what is not trusted.
    pub(super) fn claimed(&self, signature: Signature<'_>) -> Option<launch::Plan> {
        let plan = launch::plan(&self.limits(), signature, None)?;
        let trusted = self.trusted();
        let is_wrong = |kernel: &Kernel| trusted.wrong.contains(kernel);
        if indices::are_read(signature.launch) && is_wrong(&SEARCH) {
            return None;
        }
        let is_fine = |dispatch: &Dispatch| {
            trusted.tiers.has(dispatch.shader.tier()) && !dispatch.kernels().iter().any(is_wrong)
        };
        plan.dispatches.iter().all(is_fine).then_some(plan)
    }

    /// Reads no more indices on the device; says so.
    fn distrust_indices(&self) -> String {
        let mut trusted = self.trusted();
        trusted.wrong.push(SEARCH);
        self.trust(trusted);
        let name = &self.device.facts.name;
        format!("{name} misses indices out of range: what reads indices runs on the CPU")
    }

    /// Of the kernels that were not right elsewhere, uses those of the highest tier no more: neither
    /// that tier nor, of the baseline, they themselves; says what.
    fn distrust(&self, kernels: &HashSet<Kernel>, seen: &HashSet<Kernel>) -> String {
        let mut trusted = self.trusted();
        let mut wrong: Vec<_> = kernels.difference(seen).cloned().collect();
        let highest = wrong.iter().map(|(shader, _)| shader.tier()).max().unwrap_or(Tier::Baseline);
        let said = if highest == Tier::Baseline {
            wrong.sort_unstable_by_key(name);
            let names: Vec<_> = wrong.iter().map(name).collect();
            trusted.wrong.extend(wrong);
            format!("what `{}` serves runs on the CPU", names.join("`, `"))
        } else {
            trusted.tiers = trusted.tiers.without(Tiers::default().with(highest));
            format!("the tier `{}` is not used", highest.name())
        };
        self.trust(trusted);
        said
    }
}

/// Whether the first backend finds indices out of range among those that it makes itself, which no case
/// of an op has: the first of them, wherever it is, and none where there is none.
fn finds_indices(backends: &[Arc<dyn Backend>]) -> Result<bool> {
    const COUNT: usize = 600;
    let mut graph = Graph::new();
    let table = graph.parameter("table", TensorDesc::f32(&[5, 4])?, false)?;
    let given = graph.input("ids", TensorDesc::i32(&[COUNT])?)?;
    let last = graph.input("last", TensorDesc::i32(&[1])?)?;
    let made = graph.call("concat", &[("axis", 0i64.into())], &[given, last])?[0];
    let rows = graph.call("embedding", &[], &[table, made])?[0];
    graph.set_output("rows", rows)?;
    let tensors = HashMap::from([("table".to_owned(), Tensor::from_slice(&[5, 4], &[0f32; 20])?)]);
    let mut executor = Executor::new(graph, backends, &tensors)?;
    let mut found = |bad: &[(usize, i32)]| {
        let mut ids = [4; COUNT];
        bad.iter().for_each(|&(position, index)| ids[position] = index);
        executor.write("ids", &ids)?;
        executor.write("last", &[0])?;
        match executor.run(&mut ()) {
            Err(Error::Index { position, index, .. }) => Ok(Some((position, index))),
            result => result.map(|_| None),
        }
    };
    let several = found(&[(599, -1), (301, 5), (302, -7)])?;
    let none = found(&[])?;
    Ok(none.is_none() && several == Some((301, 5)) && found(&[(0, -1)])? == Some((0, -1)))
}
