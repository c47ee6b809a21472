//! Rounds of federated training: what a client keeps of a round's beginning, and what that does to
//! its gradients (FedProx, SCAFFOLD) and to its parameters at the round's end (DiLoCo).

use super::Trainer;
use super::graphs::as_made;
use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::graph::{Graph, ValueId};
use crate::ops::{Add, Affine, Mul, Recip, Sub};
use crate::passes;
use crate::tensor::{Tensor, TensorDesc};

/// How rounds shape training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rounds {
    /// `mu` of the term `mu/2 |w - w0|^2` in the loss, where `w0` is what the parameters were when
    /// the round began (Li et al., "Federated Optimization in Heterogeneous Networks", 2020); 0 for
    /// none.
    pub proximal: f32,
    /// Whether each gradient `g` is `g - c_i + c`, by this client's control variate and the server's
    /// (Karimireddy et al., "SCAFFOLD", 2020).
    pub control: bool,
    /// The outer optimizer (Douillard et al., "DiLoCo", 2023), if there is one.
    pub outer: Option<Outer>,
}

/// Descent along what a round moved the parameters by, with Nesterov's momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outer {
    /// Its rate.
    pub lr: f32,
    /// Its momentum; 0 for none.
    pub momentum: f32,
}

/// What a session may keep beside each parameter that trains, in its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// What the parameter was when the round began.
    Anchor,
    /// SCAFFOLD's `c_i`: this client's.
    Control,
    /// SCAFFOLD's `c`: the server's.
    ServerControl,
    /// The outer optimizer's momentum.
    OuterMomentum,
}

impl Kept {
    /// The state that is kept beside a parameter.
    #[must_use]
    pub fn of(self, parameter: &str) -> String {
        let kind = match self {
            Self::Anchor => "anchor",
            Self::Control => "control",
            Self::ServerControl => "server_control",
            Self::OuterMomentum => "outer_momentum",
        };
        format!("{kind}/{parameter}")
    }
}

/// Sum of the learning rates of a round's updates.
const TRAVELLED: &str = "train.travelled";

/// What runs between steps, in the order of [`Graphs`](super::graphs::Graphs)' list.
#[derive(Clone, Copy)]
enum Between {
    Begin,
    Renew,
    Outer,
}

impl Rounds {
    fn keeps_anchor(&self) -> bool {
        self.proximal > 0.0 || self.control || self.outer.is_some()
    }

    /// Refuses what no round can have.
    pub(super) fn check(&self) -> Result<()> {
        let positive = |v: f32| v.is_finite() && v >= 0.0;
        let outer = self.outer.unwrap_or(Outer { lr: 1.0, momentum: 0.0 });
        let good = positive(self.proximal)
            && positive(outer.lr)
            && outer.lr > 0.0
            && (0.0..1.0).contains(&outer.momentum);
        if good { Ok(()) } else { Err(Error::Usage(format!("unusable rounds {self:?}"))) }
    }

    /// Adds to each gradient what rounds say of it. Gradients count `weight` times.
    pub(super) fn correct(
        &self,
        graph: &mut Graph,
        pairs: &[(ValueId, ValueId)],
        weight: f32,
    ) -> Result<Vec<(ValueId, ValueId)>> {
        let mut pairs = pairs.to_vec();
        for i in as_made(&pairs) {
            let (parameter, mut gradient) = pairs[i];
            if self.proximal > 0.0 {
                let anchor = kept(graph, Kept::Anchor, parameter)?;
                let moved = graph.add(Sub, &[parameter, anchor])?;
                let pull = scaled(graph, moved, self.proximal * weight)?;
                gradient = graph.add(Add, &[gradient, pull])?;
            }
            if self.control {
                let own = kept(graph, Kept::Control, parameter)?;
                let server = kept(graph, Kept::ServerControl, parameter)?;
                let drift = graph.add(Sub, &[server, own])?;
                let drift = scaled(graph, drift, weight)?;
                gradient = graph.add(Add, &[gradient, drift])?;
            }
            pairs[i].1 = gradient;
        }
        Ok(pairs)
    }

    /// Counts an update at rate `lr`.
    pub(super) fn travel(&self, graph: &mut Graph, lr: ValueId) -> Result<()> {
        if self.control {
            let travelled = graph.state(TRAVELLED, TensorDesc::f32(&[])?)?;
            let keep = graph.scalar(1.0)?;
            graph.call("accumulate", &[], &[travelled, lr, keep])?;
        }
        Ok(())
    }

    /// The graphs that run between steps over parameters of these names and shapes, optimized.
    pub(super) fn graphs(&self, trained: &[(String, TensorDesc)]) -> Result<[Option<Graph>; 3]> {
        let mut graphs = [None, None, None];
        if self.keeps_anchor() {
            graphs[Between::Begin as usize] = Some(self.begin(trained)?);
        }
        if self.control {
            graphs[Between::Renew as usize] = Some(renew(trained)?);
        }
        if let Some(outer) = self.outer {
            graphs[Between::Outer as usize] = Some(self.step(outer, trained)?);
        }
        graphs.iter_mut().flatten().try_for_each(passes::optimize)?;
        Ok(graphs)
    }

    /// `w0 = w`, and no way travelled yet.
    fn begin(&self, trained: &[(String, TensorDesc)]) -> Result<Graph> {
        let mut g = Graph::new();
        for (name, desc) in trained {
            let parameter = g.parameter(name, desc.clone(), true)?;
            let anchor = kept(&mut g, Kept::Anchor, parameter)?;
            set(&mut g, anchor, parameter)?;
        }
        self.forget(&mut g)?;
        Ok(g)
    }

    /// `v = m v + (w0 - w)` and `w = w0 = w0 - lr ((w0 - w) + m v)`: PyTorch's Nesterov momentum.
    fn step(&self, outer: Outer, trained: &[(String, TensorDesc)]) -> Result<Graph> {
        let mut g = Graph::new();
        for (name, desc) in trained {
            let parameter = g.parameter(name, desc.clone(), true)?;
            let anchor = kept(&mut g, Kept::Anchor, parameter)?;
            let mut way = g.add(Sub, &[anchor, parameter])?;
            if outer.momentum > 0.0 {
                let momentum = kept(&mut g, Kept::OuterMomentum, parameter)?;
                let faded = scaled(&mut g, momentum, outer.momentum)?;
                let renewed = g.add(Add, &[faded, way])?;
                let ahead = scaled(&mut g, renewed, outer.momentum)?;
                way = g.add(Add, &[way, ahead])?;
                set(&mut g, momentum, renewed)?;
            }
            let way = scaled(&mut g, way, outer.lr)?;
            let next = g.add(Sub, &[anchor, way])?;
            set(&mut g, anchor, next)?;
            set(&mut g, parameter, next)?;
        }
        self.forget(&mut g)?;
        Ok(g)
    }

    /// No way is travelled since now.
    fn forget(&self, graph: &mut Graph) -> Result<()> {
        if self.control {
            let travelled = graph.state(TRAVELLED, TensorDesc::f32(&[])?)?;
            let zero = graph.scalar(0.0)?;
            set(graph, travelled, zero)?;
        }
        Ok(())
    }
}

/// `c_i = c_i - c + (w0 - w) / (sum of rates)`: SCAFFOLD's second option.
fn renew(trained: &[(String, TensorDesc)]) -> Result<Graph> {
    let mut g = Graph::new();
    let travelled = g.state(TRAVELLED, TensorDesc::f32(&[])?)?;
    let share = g.add(Recip, &[travelled])?;
    let one = g.scalar(1.0)?;
    for (name, desc) in trained {
        let parameter = g.parameter(name, desc.clone(), true)?;
        let anchor = kept(&mut g, Kept::Anchor, parameter)?;
        let own = kept(&mut g, Kept::Control, parameter)?;
        let server = kept(&mut g, Kept::ServerControl, parameter)?;
        let way = g.add(Sub, &[anchor, parameter])?;
        let mean = g.add(Mul, &[way, share])?;
        let change = g.add(Sub, &[mean, server])?;
        g.call("accumulate", &[], &[own, change, one])?;
    }
    Ok(g)
}

/// The state that is kept beside a parameter.
fn kept(graph: &mut Graph, kind: Kept, parameter: ValueId) -> Result<ValueId> {
    let name = kind.of(graph.get(parameter).name.as_deref().unwrap_or_default());
    graph.state(&name, graph.desc(parameter).clone())
}

/// `x`, so many times.
fn scaled(graph: &mut Graph, x: ValueId, factor: f32) -> Result<ValueId> {
    if factor == 1.0 { Ok(x) } else { graph.add(Affine { mul: factor, add: 0.0 }, &[x]) }
}

/// Overwrites a parameter or state.
fn set(graph: &mut Graph, state: ValueId, value: ValueId) -> Result<()> {
    let afresh = graph.scalar(0.0)?;
    graph.call("accumulate", &[], &[state, value, afresh])?;
    Ok(())
}

impl Trainer {
    /// Begins a round: what the parameters are now is its anchor. A new trainer has begun one.
    ///
    /// # Errors
    /// [`Error::Usage`] where nothing is kept of a round's beginning; what a backend reports.
    pub fn begin_round(&mut self) -> Result<()> {
        self.between(Between::Begin, "give a proximal weight, control variates or an outer rate")
    }

    /// Renews this client's control variate at a round's end, from the way that its parameters went
    /// since the round began and the rates of the updates on it.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is none, or no update since; what a backend reports.
    pub fn renew_control(&mut self) -> Result<()> {
        if self.options().rounds.control {
            let [travelled]: [f32; 1] = self.tensor(TRAVELLED)?.to_vec()?[..]
                .try_into()
                .map_err(|_| Error::Graph("no way is counted".into()))?;
            if travelled <= 0.0 {
                let why = "no update was made since the round began: a control variate is renewed \
                           at a round's end";
                return Err(Error::Usage(why.into()));
            }
        }
        self.between(Between::Renew, "train with control variates")
    }

    /// Takes a step of the outer optimizer: from the anchor, along the way from it to the parameters,
    /// which are best the mean of all clients' by now. Both are where it leads then, and a new round
    /// has begun.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no outer optimizer; what a backend reports.
    pub fn outer_step(&mut self) -> Result<()> {
        self.between(Between::Outer, "give an outer rate")
    }

    fn between(&mut self, which: Between, mend: &str) -> Result<()> {
        if self.micro_steps() != 0 {
            let why = "rounds begin and end between updates, not between micro-steps";
            return Err(Error::Usage(why.into()));
        }
        match &mut self.rounds[which as usize] {
            Some(executor) => executor.run(&mut ()),
            None => Err(Error::Usage(format!("this training keeps nothing for that: {mend}"))),
        }
    }

    /// A parameter or state, of a step or of what runs between steps.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        let others = self.apply.iter().chain(self.rounds.iter().flatten());
        let mut holders = std::iter::once(&self.step).chain(others);
        let holder = holders.find(|e: &&Executor| e.graph().find(name).is_some());
        holder.unwrap_or(&self.step).tensor(name)
    }
}
