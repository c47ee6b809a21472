//! What the passes share: a walk that replaces nodes one by one, and counts of readers.

use std::any::Any;

use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Op;

/// What becomes of a node.
pub(super) enum Change {
    /// It stays, perhaps with another op or other inputs.
    Keep(Node),
    /// It goes; its readers read these values instead, one for each output.
    Replace(Vec<ValueId>),
    /// It goes; its outputs are constants by now, or nobody reads them.
    Drop,
}

/// Walks the nodes in order, each with its inputs already redirected to what replaced them.
pub(super) fn rewrite(
    graph: &mut Graph,
    mut change: impl FnMut(&mut Graph, Node) -> Result<Change>,
) -> Result<()> {
    let mut now: Vec<ValueId> = graph.iter_values().map(|(id, _)| id).collect();
    let resolve = |now: &[ValueId], v: ValueId| now.get(v.index()).copied().unwrap_or(v);
    let nodes = graph.take_nodes();
    let mut kept = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        node.inputs.iter_mut().for_each(|v| *v = resolve(&now, *v));
        let outputs = node.outputs.clone();
        match change(graph, node)? {
            Change::Keep(node) => kept.push(node),
            Change::Drop => {}
            Change::Replace(values) => {
                outputs.iter().zip(values).for_each(|(old, new)| now[old.index()] = new);
            }
        }
    }
    graph.set_nodes(kept);
    graph.map_outputs(|v| resolve(&now, v));
    Ok(())
}

/// The op as the type `T`, if it is one.
pub(super) fn is<T: Op>(op: &dyn Op) -> Option<&T> {
    (op as &dyn Any).downcast_ref()
}

/// For each value, how often nodes and the caller read it.
pub(super) fn uses(graph: &Graph) -> Vec<usize> {
    let mut uses = vec![0; graph.values().len()];
    let read = graph.nodes().iter().flat_map(|n| &n.inputs);
    for value in read.chain(graph.outputs().iter().map(|(_, v)| v)) {
        uses[value.index()] += 1;
    }
    uses
}

/// The lines of the nodes that a pass leaves, for its snapshot.
#[cfg(test)]
pub(super) fn after(pass: fn(&mut Graph) -> Result<()>, mut graph: Graph) -> Vec<String> {
    pass(&mut graph).unwrap();
    graph.verify().unwrap();
    graph
        .dump()
        .lines()
        .filter(|l| l.contains(" = ") && l.contains('('))
        .map(str::to_owned)
        .collect()
}

/// Each line contains its pattern, and there are as many.
#[cfg(test)]
#[track_caller]
pub(super) fn assert_snapshot(lines: &[String], patterns: &[&str]) {
    assert_eq!(lines.len(), patterns.len(), "{lines:#?}");
    for (line, pattern) in lines.iter().zip(patterns) {
        assert!(line.contains(pattern), "`{line}` lacks `{pattern}` in\n{lines:#?}");
    }
}
