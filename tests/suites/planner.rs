//! The memory plan against its bounds, over training graphs and random ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenon_backends::cpu::{Cpu, Options};
use tenon_runtime::backend::{Backend, Device, Launch, Memory, Part, Program, Signature};
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::{Graph, NodeId, Source, ValueId};
use tenon_runtime::memory::{Plan, aligned, bound_of};
use tenon_runtime::tensor::{Allocator, DType, Tensor, TensorDesc};
use tenon_tests::corpus::{null, random, training};
use tenon_tests::golden::report;

fn own_order(graph: &Graph) -> Vec<NodeId> {
    graph.iter_nodes().map(|(id, _)| id).collect()
}

/// 200 random graphs of 20 to 300 nodes.
fn randoms() -> impl Iterator<Item = (String, Graph)> {
    (0..200).map(|seed| {
        let graph = random(20 + (seed as usize * 37) % 281, seed).expect("a random graph");
        graph.verify().expect("a legal graph");
        (format!("random {seed}"), graph)
    })
}

#[test]
fn plans_meet_their_bounds() {
    let training = training().expect("the corpus builds");
    let (mut graphs, mut met, mut failures) = (0, 0, Vec::new());
    report("graph, nodes, bytes of the own order's bound, of the chosen order's, arena / bound");
    for (name, graph) in training.into_iter().chain(randoms()) {
        let plan = Plan::new(&graph, &null()).expect("a plan");
        let own = bound_of(&graph, &null(), &own_order(&graph)).expect("a bound");
        let (arena, bound) = (plan.arena_bytes(), plan.lower_bound_bytes() - plan.owned_bytes());
        let ratio = arena as f64 / bound.max(1) as f64;
        let nodes = graph.nodes().len();
        report(&format!("{name:24} {nodes:5} {own:10} {bound:10} {ratio:7.4}"));
        let order: Vec<_> = plan.nodes().iter().map(|p| p.node).collect();
        assert_eq!(bound_of(&graph, &null(), &order).expect("a legal order"), bound, "{name}");
        graphs += 1;
        met += usize::from(arena == bound);
        if bound > own || arena > own || ratio > 1.01 {
            failures.push(name);
        }
    }
    report(&format!("planner: {met} of {graphs} arenas are as small as their order allows"));
    assert!(failures.is_empty(), "above the own order, or 1 % above the bound: {failures:?}");
    assert!(met * 100 >= graphs * 95, "{met} of {graphs}");
}

/// A graph's memory, told apart from the planner's way to see it: plain loops over all nodes.
struct Model<'g> {
    graph: &'g Graph,
    launches: Vec<Launch>,
    /// By value: what its memory is.
    roots: Vec<ValueId>,
}

impl<'g> Model<'g> {
    fn new(graph: &'g Graph) -> Self {
        let mut roots: Vec<_> = graph.iter_values().map(|(id, _)| id).collect();
        let mut launches = Vec::new();
        for node in graph.nodes() {
            let descs = |ids: &[ValueId]| ids.iter().map(|&v| graph.desc(v)).collect::<Vec<_>>();
            let launch = node.op.launch(&descs(&node.inputs), &descs(&node.outputs));
            if launch == Launch::Alias {
                roots[node.outputs[0].index()] = roots[node.inputs[0].index()];
            }
            launches.push(launch);
        }
        Self { graph, launches, roots }
    }

    fn root(&self, value: ValueId) -> ValueId {
        self.roots[value.index()]
    }

    fn bytes(&self, root: ValueId) -> usize {
        aligned(self.graph.desc(root).bytes())
    }

    /// The node that makes a root.
    fn maker(&self, root: ValueId) -> Option<usize> {
        match self.graph.get(root).source {
            Source::Node { node, .. } => Some(node.index()),
            _ => None,
        }
    }

    fn reads(&self, node: usize, root: ValueId) -> bool {
        self.graph.nodes()[node].inputs.iter().any(|&v| self.root(v) == root)
    }

    fn writes(&self, node: usize, root: ValueId) -> bool {
        let node = &self.graph.nodes()[node];
        node.op.mutates().iter().any(|&m| self.root(node.inputs[m]) == root)
    }

    /// Whether anything needs `root` once the nodes of `done` have run.
    fn is_needed(&self, root: ValueId, done: u32) -> bool {
        let later = |n: usize| done & 1 << n == 0 && self.reads(n, root);
        self.graph.outputs().iter().any(|o| self.root(o.1) == root)
            || (0..self.graph.nodes().len()).any(later)
    }

    /// Whether `node` must follow `other`.
    fn follows(&self, node: usize, other: usize) -> bool {
        let inputs = &self.graph.nodes()[node].inputs;
        let makes = inputs.iter().any(|v| {
            matches!(self.graph.get(*v).source, Source::Node { node, .. } if node.index() == other)
        });
        let shared = self.roots.iter().any(|&r| {
            let write = self.writes(node, r) || self.writes(other, r);
            write && self.reads(node, r) && self.reads(other, r)
        });
        makes || (other < node && shared)
    }

    /// Bytes that live while `node` runs after those of `done`.
    fn load(&self, node: usize, done: u32) -> usize {
        let before = self.graph.iter_values().map(|(id, _)| id).filter(|&id| {
            let made = self.maker(id).is_some_and(|m| done & 1 << m != 0);
            made && self.root(id) == id && self.is_needed(id, done)
        });
        let before: usize = before.map(|root| self.bytes(root)).sum();
        if self.launches[node] == Launch::Alias {
            return before;
        }
        let outputs = &self.graph.nodes()[node].outputs;
        let made: usize = outputs.iter().map(|&v| self.bytes(v)).sum();
        let saved =
            if self.overwrites(node, done | 1 << node) { self.bytes(outputs[0]) } else { 0 };
        before + made - saved
    }

    /// Whether the first output of `node` takes the place of an operand that nothing needs any
    /// more.
    fn overwrites(&self, node: usize, done: u32) -> bool {
        let (graph, inputs) = (self.graph, &self.graph.nodes()[node].inputs);
        let Some(&output) = self.graph.nodes()[node].outputs.first() else { return false };
        // What adds to an operand reads the others anywhere, and more than once.
        let adds = matches!(self.launches[node], Launch::ScatterAdd);
        self.launches[node].in_place().iter().filter_map(|&i| inputs.get(i)).any(|&input| {
            let root = self.root(input);
            let readers = inputs.iter().filter(|&&v| self.root(v) == root).count();
            let same = |v: ValueId| graph.desc(v) == graph.desc(output);
            self.maker(root).is_some()
                && !self.is_needed(root, done)
                && same(input)
                && graph.desc(root).bytes() == graph.desc(output).bytes()
                && inputs.iter().all(|&v| self.root(v) != root || same(v))
                && (!adds || readers == 1)
        })
    }

    /// The least peak of all orders, over all sets of nodes that may have run.
    fn least_peak(&self) -> usize {
        let count = self.graph.nodes().len();
        let mut least = vec![usize::MAX; 1 << count];
        least[0] = 0;
        for done in 0..1u32 << count {
            for node in (0..count).filter(|n| done & 1 << n == 0) {
                let follows = |other| self.follows(node, other) && done & 1 << other == 0;
                if least[done as usize] == usize::MAX || (0..count).any(follows) {
                    continue;
                }
                let peak = least[done as usize].max(self.load(node, done));
                let next = &mut least[(done | 1 << node) as usize];
                *next = peak.min(*next);
            }
        }
        least[(1 << count) - 1]
    }
}

/// The least bound of every order that begins with `order`, by the planner's own account.
fn least_bound(graph: &Graph, order: &mut Vec<NodeId>) -> usize {
    let rest: Vec<_> = own_order(graph).into_iter().filter(|n| !order.contains(n)).collect();
    if rest.is_empty() {
        return bound_of(graph, &null(), order).unwrap_or(usize::MAX);
    }
    let bounds = rest.into_iter().map(|node| {
        order.push(node);
        let least = least_bound(graph, order);
        order.pop();
        least
    });
    bounds.min().unwrap_or(usize::MAX)
}

#[test]
fn small_graphs_get_their_best_order() {
    let mut lower = 0;
    for seed in 0..400 {
        let graph = random(3 + seed as usize % 10, 1000 + seed).expect("a random graph");
        let plan = Plan::new(&graph, &null()).expect("a plan");
        let bound = plan.lower_bound_bytes() - plan.owned_bytes();
        let least = Model::new(&graph).least_peak();
        assert_eq!(bound, least, "random {seed}: {}", graph.dump());
        if graph.nodes().len() < 6 {
            assert_eq!(least_bound(&graph, &mut Vec::new()), least, "random {seed}");
        }
        let own = bound_of(&graph, &null(), &own_order(&graph)).expect("a bound");
        lower += usize::from(bound < own);
    }
    report(&format!("planner: 400 small graphs at their optimum, {lower} below their own order"));
}

/// An update must not run before what reads the parameter, be it through a view.
#[test]
fn writes_wait_for_readers_of_views() {
    let mut g = Graph::new();
    let w = g.parameter("w", TensorDesc::f32(&[8]).unwrap(), true).unwrap();
    let scalar = TensorDesc::f32(&[]).unwrap();
    let x = g.input("x", TensorDesc::f32(&[8]).unwrap()).unwrap();
    let (lr, scale) = (g.input("lr", scalar.clone()).unwrap(), g.input("s", scalar).unwrap());
    let view = g.call("reshape", &[("shape", [2usize, 4][..].into())], &[w]).unwrap()[0];
    let gradient = g.call("exp", &[], &[x]).unwrap()[0];
    let read = g.call("square", &[], &[view]).unwrap()[0];
    g.call("sgd", &[], &[w, gradient, lr, scale]).unwrap();
    g.set_output("read", read).unwrap();
    let plan = Plan::new(&g, &null()).unwrap();
    let at = |op: &str| plan.nodes().iter().position(|p| g.nodes()[p.node.index()].op.name() == op);
    assert!(at("square") < at("sgd"));
}

/// What a scatter adds to may be what it reads, and is not overwritten then.
#[test]
fn sums_do_not_overwrite_what_they_read() {
    const N: usize = 96;
    let mut g = Graph::new();
    let x = g.input("x", TensorDesc::f32(&[N, N]).unwrap()).unwrap();
    let ids = g.input("ids", TensorDesc::i32(&[N]).unwrap()).unwrap();
    for name in ["one", "two"] {
        let read = g.call("exp", &[], &[x]).unwrap()[0];
        let added = if name == "two" { g.call("exp", &[], &[x]).unwrap()[0] } else { read };
        let attrs = [("rows", N.into())];
        let sum = g.call("embedding_grad", &attrs, &[read, ids, added]).unwrap()[0];
        let y = g.call("neg", &[], &[sum]).unwrap()[0];
        g.set_output(name, y).unwrap();
    }
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(Options::default()).expect("a CPU"));
    let mut run = Executor::new(g, &[cpu], &HashMap::new()).expect("an executor");
    let values: Vec<f32> = (0..N * N).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    run.write("x", &values).unwrap();
    run.write("ids", &(0..N as i32).map(|i| (i * 5 + 3) % N as i32).collect::<Vec<_>>()).unwrap();
    run.run(&mut ()).unwrap();
    let [one, two] = ["one", "two"].map(|name| run.read_vec::<f32>(name).unwrap());
    assert!(one == two);
}

/// Parameters, states and outputs after two runs in an order.
fn bits(graph: &Graph, plan: Plan, backends: &[Arc<dyn Backend>]) -> Vec<(String, Vec<u32>)> {
    let noise = |salt: usize, n: usize| -> Vec<f32> {
        let value = |i: usize| ((i + salt).wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0;
        (0..n).map(value).collect()
    };
    let mut tensors = HashMap::new();
    for (id, value) in graph.iter_values().filter(|(_, v)| v.is_persistent()) {
        let mut values = noise(id.index(), value.desc.numel());
        values.iter_mut().for_each(|v| *v = 0.1 * v.abs());
        let tensor = Tensor::from_slice(value.desc.shape(), &values).expect("a tensor");
        tensors.insert(value.name.clone().expect("a name"), tensor);
    }
    let mut run = Executor::planned(graph.clone(), plan, backends, &tensors).expect("an executor");
    let inputs = graph.iter_values().filter(|(_, v)| matches!(v.source, Source::Input));
    for (id, value) in inputs {
        let (name, n) = (value.name.as_deref().expect("a name"), value.desc.numel());
        match value.desc.dtype() {
            DType::I32 => run.write(name, &(0..n as i32).map(|i| i % 10).collect::<Vec<_>>()),
            _ if n == 1 => run.write(name, &[0.01f32]),
            _ => run.write(name, &noise(id.index(), n)),
        }
        .expect("an input");
    }
    for _ in 0..2 {
        run.run(&mut ()).expect("a run");
    }
    let names = run.persistent().map(|(name, _)| name.to_owned());
    let names: Vec<String> = names.chain(graph.outputs().iter().map(|o| o.0.clone())).collect();
    let read = |name: String| {
        let values = run.read_vec::<f32>(&name).expect("a value");
        (name, values.into_iter().map(f32::to_bits).collect())
    };
    names.into_iter().map(read).collect()
}

#[test]
fn the_order_changes_no_bit() {
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(Options::default()).expect("a CPU"));
    let backends = [cpu];
    let small = |(_, graph): &(String, Graph)| graph.nodes().len() < 400;
    let training = training().expect("the corpus builds").into_iter().filter(small);
    for (name, graph) in training.chain(randoms().step_by(4)) {
        let plan = Plan::new(&graph, &backends).expect("a plan");
        let own = Plan::with_order(&graph, &backends, &own_order(&graph)).expect("a plan");
        let (got, want) = (bits(&graph, plan, &backends), bits(&graph, own, &backends));
        for (got, want) in got.iter().zip(&want) {
            assert!(got == want, "{name}: `{}` differs between two orders", want.0);
        }
    }
}

/// The CPU as two devices: one claims half of the classes, and does what it is told to only when it
/// is waited for; the other claims all and does it at once, and counts what it does meanwhile.
struct Split {
    cpu: Arc<dyn Backend>,
    is_late: bool,
    /// Programs that were launched and not waited for, and launches of the other device meanwhile.
    waiting: Arc<[AtomicUsize; 2]>,
}

impl Backend for Split {
    fn describe(&self) -> Device {
        self.cpu.describe()
    }

    fn allocator(&self) -> &dyn Allocator {
        self.cpu.allocator()
    }

    fn supports(&self, signature: Signature<'_>) -> bool {
        !self.is_late || matches!(signature.launch, Launch::Unary(_) | Launch::Gemm(_))
    }

    fn workspace(&self, signature: Signature<'_>) -> usize {
        self.cpu.workspace(signature)
    }

    fn compile(&self, part: Part<'_>) -> tenon_runtime::Result<Box<dyn Program>> {
        let queue = Vec::with_capacity(part.steps.len());
        let (is_late, waiting) = (self.is_late, self.waiting.clone());
        Ok(Box::new(SplitProgram { program: self.cpu.compile(part)?, is_late, queue, waiting }))
    }
}

struct SplitProgram {
    program: Box<dyn Program>,
    is_late: bool,
    queue: Vec<(usize, usize)>,
    waiting: Arc<[AtomicUsize; 2]>,
}

impl Program for SplitProgram {
    unsafe fn launch(&mut self, index: usize, memory: &Memory) -> tenon_runtime::Result<()> {
        let [flying, meanwhile] = &*self.waiting;
        if self.is_late {
            flying.fetch_add(usize::from(self.queue.is_empty()), Ordering::Relaxed);
            self.queue.push((index, std::ptr::from_ref(memory).expose_provenance()));
            return Ok(());
        }
        meanwhile.fetch_add(usize::from(flying.load(Ordering::Relaxed) > 0), Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { self.program.launch(index, memory) }
    }

    fn sync(&mut self) -> tenon_runtime::Result<()> {
        self.waiting[0].fetch_sub(usize::from(!self.queue.is_empty()), Ordering::Relaxed);
        self.queue.drain(..).try_for_each(|(index, memory)| {
            // SAFETY: the memory stays until all is waited for, by `launch`'s contract.
            unsafe { self.program.launch(index, &*std::ptr::with_exposed_provenance(memory)) }
        })
    }
}

#[test]
fn a_device_that_works_on_meanwhile_changes_no_bit() {
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(Options::default()).expect("a CPU"));
    let waiting = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let device = |is_late| -> Arc<dyn Backend> {
        Arc::new(Split { cpu: cpu.clone(), is_late, waiting: waiting.clone() })
    };
    let split = [device(true), device(false)];
    let small = |(_, graph): &(String, Graph)| graph.nodes().len() < 400;
    let training = training().expect("the corpus builds").into_iter().filter(small);
    for (name, graph) in training.chain(randoms().step_by(4)) {
        let plan = |backends: &[Arc<dyn Backend>]| Plan::new(&graph, backends).expect("a plan");
        let alone = std::slice::from_ref(&cpu);
        let (got, want) = (bits(&graph, plan(&split), &split), bits(&graph, plan(alone), alone));
        for (got, want) in got.iter().zip(&want) {
            assert!(got == want, "{name}: `{}` differs where two devices share the work", want.0);
        }
        assert_eq!(waiting[0].load(Ordering::Relaxed), 0, "{name}: a program was not waited for");
    }
    let meanwhile = waiting[1].load(Ordering::Relaxed);
    report(&format!("planner: {meanwhile} launches while another device was at work"));
    assert!(meanwhile > 0);
}
