//! The rules a graph must keep, checked after building and after every pass.

use std::collections::HashSet;

use super::{Graph, NodeId, Source, ValueId};
use crate::error::{Error, Result};

impl Graph {
    /// Checks that every node reads only what exists before it, makes what its op infers, that
    /// every value has one maker, and that nothing is overwritten twice or read after.
    ///
    /// # Errors
    /// [`Error::Graph`] naming the first rule broken.
    pub fn verify(&self) -> Result<()> {
        let mut made: HashSet<ValueId> = self
            .iter_values()
            .filter(|(_, v)| !matches!(v.source, Source::Node { .. }))
            .map(|(id, _)| id)
            .collect();
        let mut overwritten = HashSet::new();
        for (i, node) in self.nodes().iter().enumerate() {
            let fail =
                |why: String| Err(Error::Graph(format!("node {i} ({}): {why}", node.op.name())));
            if let Some(v) = node.inputs.iter().find(|v| !made.contains(v)) {
                return fail(format!("reads value {} before it is made", v.0));
            }
            if let Some(v) = node.inputs.iter().find(|v| overwritten.contains(*v)) {
                return fail(format!("reads value {} after it was overwritten", v.0));
            }
            overwritten.extend(node.op.mutates().iter().map(|&m| node.inputs[m]));
            let inputs: Vec<_> = node.inputs.iter().map(|&v| self.desc(v)).collect();
            let inferred = node.op.infer(&inputs)?;
            if inferred.len() != node.outputs.len() {
                return fail(format!(
                    "makes {} outputs, not {}",
                    inferred.len(),
                    node.outputs.len()
                ));
            }
            for (output, (&value, desc)) in node.outputs.iter().zip(&inferred).enumerate() {
                if self.desc(value) != desc {
                    return fail(format!("output {output} is {}, not {desc}", self.desc(value)));
                }
                let maker = Source::Node { node: NodeId(i as u32), output };
                if !matches!((&self.get(value).source, &maker),
                    (Source::Node { node: a, output: b }, Source::Node { node: c, output: d })
                    if a == c && b == d)
                {
                    return fail(format!("value {} names another maker", value.0));
                }
                if !made.insert(value) {
                    return fail(format!("value {} is made twice", value.0));
                }
            }
        }
        match self.outputs().iter().find(|(_, v)| !made.contains(v)) {
            Some((name, _)) => Err(Error::Graph(format!("output `{name}` is never made"))),
            None => Ok(()),
        }
    }
}
