//! The order in which nodes run.

use crate::graph::{Graph, NodeId, ValueId};

/// The graph's own order, with each node that overwrites a parameter or state moved to the first
/// moment when its inputs exist and every other reader of what it overwrites has run: a gradient
/// is then consumed as soon as it is complete.
#[must_use]
pub fn order(graph: &Graph) -> Vec<NodeId> {
    let nodes = graph.nodes();
    let mut readers = vec![0usize; graph.values().len()];
    for node in nodes {
        for value in &node.inputs {
            readers[value.index()] += 1;
        }
    }
    let mut made: Vec<bool> = graph
        .values()
        .iter()
        .map(|v| !matches!(v.source, crate::graph::Source::Node { .. }))
        .collect();
    let mut waiting: Vec<NodeId> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        if !node.op.mutates().is_empty() {
            waiting.push(NodeId(i as u32));
        }
    }
    let mut order = Vec::with_capacity(nodes.len());
    let mut emit = |id: NodeId, made: &mut Vec<bool>, readers: &mut Vec<usize>| {
        order.push(id);
        let node = &nodes[id.index()];
        for value in &node.inputs {
            readers[value.index()] -= 1;
        }
        for value in &node.outputs {
            made[value.index()] = true;
        }
    };
    let is_ready = |id: NodeId, made: &[bool], readers: &[usize]| {
        let node = &nodes[id.index()];
        let own = |v: ValueId| node.inputs.iter().filter(|&&u| u == v).count();
        node.inputs.iter().all(|v| made[v.index()])
            && node.op.mutates().iter().all(|&m| {
                let value = node.inputs[m];
                readers[value.index()] == own(value)
            })
    };
    for (i, node) in nodes.iter().enumerate() {
        if !node.op.mutates().is_empty() {
            continue;
        }
        emit(NodeId(i as u32), &mut made, &mut readers);
        // A node frees at most the writers that share a value with it, yet scanning the few that
        // wait is simpler; a writer may free another (running statistics), hence the loop.
        while let Some(at) = waiting.iter().position(|&id| is_ready(id, &made, &readers)) {
            emit(waiting.remove(at), &mut made, &mut readers);
        }
    }
    // Writers in a cycle of overwriting cannot exist: the graph's own order is legal.
    for id in waiting {
        emit(id, &mut made, &mut readers);
    }
    order
}
