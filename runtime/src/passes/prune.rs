//! Takes out dead code: nodes whose results nobody asks for.

use super::rewrite::{Change, rewrite, uses};
use crate::error::Result;
use crate::graph::{Graph, Source};

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let mut uses = uses(graph);
    let mut live = vec![false; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate().rev() {
        live[i] = !node.op.mutates().is_empty() || node.outputs.iter().any(|v| uses[v.index()] > 0);
        if !live[i] {
            node.inputs.iter().for_each(|v| uses[v.index()] -= 1);
        }
    }
    let mut live = live.into_iter();
    rewrite(graph, |_, node| {
        Ok(if live.next() == Some(true) { Change::Keep(node) } else { Change::Drop })
    })?;
    // A constant without readers would still be counted as memory of the run.
    let unread: Vec<_> = graph
        .iter_values()
        .filter(|(id, v)| matches!(v.source, Source::Constant(_)) && uses[id.index()] == 0)
        .map(|(id, _)| id)
        .collect();
    unread.into_iter().for_each(|id| graph.bury(id));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::graph::{Graph, Source};
    use crate::ops::{Add, Exp, Neg};
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::TensorDesc;

    #[test]
    fn only_what_outputs_and_updates_need_stays() {
        let mut g = Graph::new();
        let a = g.input("a", TensorDesc::f32(&[3]).unwrap()).unwrap();
        let w = g.parameter("w", TensorDesc::f32(&[3]).unwrap(), true).unwrap();
        let unused = g.add(Exp, &[a]).unwrap();
        let two = g.scalar(2.0).unwrap();
        g.add(Add, &[unused, two]).unwrap();
        let gradient = g.add(Neg, &[a]).unwrap();
        let lr = g.input("lr", TensorDesc::f32(&[]).unwrap()).unwrap();
        g.call("sgd", &[], &[w, gradient, lr, lr]).unwrap();
        assert_snapshot(&after(run, g.clone()), &["= neg (a)"]);
        run(&mut g).unwrap();
        assert_eq!(g.nodes().len(), 2, "the update stays, though it makes nothing");
        assert!(!g.values().iter().any(|v| matches!(v.source, Source::Constant(_))));
    }
}
