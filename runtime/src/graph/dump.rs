//! The graph as text to read and compare, and as Graphviz to look at.

use std::fmt::Write;

use super::{Graph, Node, Source, ValueId};

impl Graph {
    /// The graph as text: inputs, parameters and states that are used, then one line a node, then
    /// the outputs. Values are numbered in order of appearance, so two graphs that compute the
    /// same in the same order print the same.
    #[must_use]
    pub fn dump(&self) -> String {
        let labels = self.labels();
        let mut out = String::new();
        for (id, value) in self.iter_values().filter(|(id, _)| self.is_used(*id)) {
            let kind = match &value.source {
                Source::Input => "input",
                Source::Parameter { trainable: true } => "trainable",
                Source::Parameter { trainable: false } => "frozen",
                Source::State => "state",
                Source::Constant(_) => "constant",
                Source::Node { .. } => continue,
            };
            let _ = writeln!(out, "{kind} {}: {}", labels[id.index()], value.desc);
        }
        for node in self.nodes() {
            let _ = writeln!(out, "{}", self.line(node, &labels));
        }
        for (name, value) in self.outputs() {
            let _ = writeln!(out, "output {name} = {}", labels[value.index()]);
        }
        out
    }

    /// The graph in Graphviz's language: `dot -Tsvg`.
    #[must_use]
    pub fn graphviz(&self) -> String {
        let labels = self.labels();
        let mut out =
            String::from("digraph tenon {\n  rankdir=TB;\n  node [fontname=monospace];\n");
        for (id, value) in self.iter_values().filter(|(id, _)| self.is_used(*id)) {
            let style = match &value.source {
                Source::Node { .. } => continue,
                Source::Input => "shape=invhouse",
                Source::Parameter { trainable: true } => {
                    "shape=box,style=filled,fillcolor=\"#ffd9a0\""
                }
                Source::Parameter { trainable: false } => {
                    "shape=box,style=filled,fillcolor=\"#d8e2ef\""
                }
                Source::State => "shape=cylinder",
                Source::Constant(_) => "shape=box,style=dotted",
            };
            let label = format!("{}\n{}", labels[id.index()], value.desc);
            let _ = writeln!(out, "  v{} [label={label:?},{style}];", id.0);
        }
        for (i, node) in self.nodes().iter().enumerate() {
            let _ = writeln!(out, "  n{i} [label={:?},shape=ellipse];", describe(node));
            for &input in &node.inputs {
                let from = match &self.get(input).source {
                    Source::Node { node, .. } => format!("n{}", node.0),
                    _ => format!("v{}", input.0),
                };
                let label = self.desc(input).shape().to_string();
                let _ = writeln!(out, "  {from} -> n{i} [label={label:?}];");
            }
        }
        for (name, value) in self.outputs() {
            if let Source::Node { node, .. } = &self.get(*value).source {
                let _ = writeln!(out, "  {name:?} [shape=house];\n  n{} -> {name:?};", node.0);
            }
        }
        out.push_str("}\n");
        out
    }

    fn is_used(&self, id: ValueId) -> bool {
        self.nodes().iter().any(|n| n.inputs.contains(&id))
            || self.outputs().iter().any(|&(_, v)| v == id)
            || matches!(self.get(id).source, Source::Input | Source::Parameter { .. })
    }

    fn line(&self, node: &Node, labels: &[String]) -> String {
        let join = |ids: &[ValueId]| {
            ids.iter().map(|v| labels[v.index()].clone()).collect::<Vec<_>>().join(", ")
        };
        let descs: Vec<_> = node.outputs.iter().map(|&v| self.desc(v).to_string()).collect();
        if node.outputs.is_empty() {
            format!("{} ({})", describe(node), join(&node.inputs))
        } else {
            format!(
                "{}: {} = {} ({})",
                join(&node.outputs),
                descs.join(", "),
                describe(node),
                join(&node.inputs)
            )
        }
    }

    fn labels(&self) -> Vec<String> {
        let mut labels: Vec<_> =
            self.values().iter().map(|v| v.name.clone().unwrap_or_default()).collect();
        let mut constants = 0;
        for (id, value) in self.iter_values() {
            if matches!(value.source, Source::Constant(_)) && self.is_used(id) {
                labels[id.index()] = format!("c{constants}");
                constants += 1;
            }
        }
        let made = self.nodes().iter().flat_map(|n| &n.outputs);
        for (i, v) in made.enumerate() {
            labels[v.index()] = format!("%{i}");
        }
        labels
    }
}

fn describe(node: &Node) -> String {
    let attrs: Vec<_> = node.op.attrs().iter().map(|(n, v)| format!("{n}={v}")).collect();
    if attrs.is_empty() {
        node.op.name().to_owned()
    } else {
        format!("{}{{{}}}", node.op.name(), attrs.join(" "))
    }
}
