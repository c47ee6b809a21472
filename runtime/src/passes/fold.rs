//! Takes out what changes nothing, and computes small results that depend on constants alone.
//!
//! Constants are computed with each op's f64 reference and rounded once, so folding is at least as
//! exact as any backend and the same for all.

use tenon_kernels::binary::Binary;
use tenon_kernels::unary::Unary;

use super::rewrite::{Change, is, rewrite};
use crate::backend::Launch;
use crate::error::Result;
use crate::graph::{Graph, Node, Source, ValueId};
use crate::memory::descs;
use crate::ops::{BroadcastTo, Cast, Concat, Neg, Reshape, Slice, Transpose};
use crate::tensor::{DType, Shape, Tensor};

/// Elements of the largest result that is computed here: a table worth its bytes in the graph.
const MAX_ELEMENTS: usize = 4096;

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let overwritten = graph.overwritten();
    let mut made: Vec<Option<Node>> = vec![None; graph.values().len()];
    rewrite(graph, |graph, mut node| {
        // A reshape of a reshape reads the first one's input.
        if is::<Reshape>(&*node.op).is_some()
            && let Some(first) = maker(&made, node.inputs[0])
            && is::<Reshape>(&*first.op).is_some()
        {
            node.inputs = first.inputs.clone();
        }
        let same = unchanged(graph, &made, &node).filter(|v| !overwritten.contains(v));
        if let Some(value) = same {
            return Ok(Change::Replace(vec![value]));
        }
        if let Some(tensor) = computed(graph, &node)? {
            graph.freeze(node.outputs[0], tensor);
            return Ok(Change::Drop);
        }
        for &output in &node.outputs {
            made[output.index()] = Some(node.clone());
        }
        Ok(Change::Keep(node))
    })
}

fn maker(made: &[Option<Node>], value: ValueId) -> Option<&Node> {
    made.get(value.index())?.as_ref()
}

/// The value whose bits the node only repeats.
fn unchanged(graph: &Graph, made: &[Option<Node>], node: &Node) -> Option<ValueId> {
    let (&[output], &[x, ..]) = (&node.outputs[..], &node.inputs[..]) else { return None };
    let op = &*node.op;
    let same = |v: ValueId| graph.desc(v) == graph.desc(output);
    let in_order = |t: &Transpose| t.perm.iter().copied().eq(0..t.perm.len());
    let keeps_shape = is::<Reshape>(op).is_some()
        || is::<BroadcastTo>(op).is_some()
        || is::<Cast>(op).is_some()
        || is::<Slice>(op).is_some()
        || is::<Concat>(op).is_some() && node.inputs.len() == 1
        || is::<Transpose>(op).is_some_and(in_order);
    if keeps_shape {
        return same(x).then_some(x);
    }
    if is::<Neg>(op).is_some() {
        let inner = maker(made, x).filter(|n| is::<Neg>(&*n.op).is_some());
        return inner.map(|n| n.inputs[0]);
    }
    let (inputs, outputs) = descs(graph, node);
    let ones = |v: ValueId| is_all(graph, v, 1.0);
    match (node.op.launch(&inputs, &outputs), &node.inputs[..]) {
        (Launch::Unary(Unary::Affine { mul, add }), _)
            if mul == 1.0 && add.to_bits() == MINUS_ZERO =>
        {
            Some(x)
        }
        (Launch::Binary(Binary::Mul | Binary::Div), &[a, b]) if same(a) && ones(b) => Some(a),
        (Launch::Binary(Binary::Mul), &[a, b]) if same(b) && ones(a) => Some(b),
        (Launch::Binary(Binary::Sub), &[a, b]) if same(a) && is_all(graph, b, 0.0) => Some(a),
        _ => None,
    }
}

/// `x + -0` is `x` even for `x = -0`; `x + 0` is not.
const MINUS_ZERO: u32 = 0x8000_0000;

/// Whether a value is an f32 constant of this number everywhere, to the bit.
fn is_all(graph: &Graph, value: ValueId, number: f32) -> bool {
    let Source::Constant(tensor) = &graph.get(value).source else { return false };
    tensor.desc().numel() <= MAX_ELEMENTS
        && tensor
            .to_vec::<f32>()
            .is_ok_and(|all| all.iter().all(|x| x.to_bits() == number.to_bits()))
}

/// The result of a node that reads small constants only.
fn computed(graph: &Graph, node: &Node) -> Result<Option<Tensor>> {
    let &[output] = &node.outputs[..] else { return Ok(None) };
    let desc = graph.desc(output);
    if desc.dtype() != DType::F32 || desc.numel() > MAX_ELEMENTS {
        return Ok(None);
    }
    let constants = node.inputs.iter().map(|&v| match &graph.get(v).source {
        Source::Constant(tensor) => Some(tensor),
        _ => None,
    });
    let Some(constants) = constants.collect::<Option<Vec<_>>>() else { return Ok(None) };
    if constants.iter().any(|t| t.desc().dtype() != DType::F32) {
        return Ok(None);
    }
    let (inputs, outputs) = descs(graph, node);
    let launch = node.op.launch(&inputs, &outputs);
    let elementwise = matches!(launch, Launch::Unary(_) | Launch::Binary(_) | Launch::Select);
    if !elementwise && launch != Launch::Alias {
        return Ok(None);
    }
    let operands = constants
        .iter()
        .map(|t| spread(&t.to_vec::<f32>()?, t.desc().shape(), desc.shape(), &launch))
        .collect::<Result<Vec<_>>>()?;
    let at = |i: usize| operands.iter().map(move |o| f64::from(o[i])).collect::<Vec<_>>();
    let data: Vec<f32> = (0..desc.numel())
        .map(|i| match (&launch, &at(i)[..]) {
            (Launch::Unary(op), &[x]) => op.reference(x) as f32,
            (Launch::Binary(op), &[a, b]) => op.reference(a, b) as f32,
            (Launch::Select, &[c, a, b]) => (if c == 0.0 { b } else { a }) as f32,
            _ => operands[0][i],
        })
        .collect();
    Ok(Some(Tensor::from_slice(desc.shape(), &data)?))
}

/// The elements of an operand, repeated to the shape of the result; an alias only renames them.
fn spread(data: &[f32], from: &Shape, to: &Shape, launch: &Launch) -> Result<Vec<f32>> {
    if *launch == Launch::Alias {
        return Ok(data.to_vec());
    }
    let (own, whole) = (from.strides(), to.strides());
    let outer = to.len() - from.len();
    let at = |i: usize| -> usize {
        (0..from.len())
            .filter(|&axis| from[axis] != 1)
            .map(|axis| i / whole[outer + axis] % to[outer + axis] * own[axis])
            .sum()
    };
    Ok((0..to.numel()).map(|i| data[at(i)]).collect())
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::graph::{Graph, Source};
    use crate::ops::{Add, Cast, Div, Exp, Mul, Neg, Reshape, Sub, Transpose};
    use crate::passes::rewrite::{after, assert_snapshot};
    use crate::tensor::{DType, Tensor, TensorDesc};

    #[test]
    fn what_changes_nothing_goes() {
        let mut g = Graph::new();
        let a = g.input("a", TensorDesc::f32(&[4, 8]).unwrap()).unwrap();
        let one = g.scalar(1.0).unwrap();
        let zero = g.scalar(0.0).unwrap();
        let mut v = g.add(Mul, &[one, a]).unwrap();
        v = g.add(Div, &[v, one]).unwrap();
        v = g.add(Sub, &[v, zero]).unwrap();
        v = g.add(Cast { dtype: DType::F32 }, &[v]).unwrap();
        v = g.add(Reshape::to(&[2, 16]), &[v]).unwrap();
        v = g.add(Transpose { perm: vec![0, 1] }, &[v]).unwrap();
        v = g.add(Reshape::to(&[32]), &[v]).unwrap();
        v = g.add(Neg, &[v]).unwrap();
        v = g.add(Neg, &[v]).unwrap();
        v = g.add(Exp, &[v]).unwrap();
        g.set_output("y", v).unwrap();
        // The first reshape and negation have no reader left; taking them out is dead code's work.
        let lines = after(run, g);
        assert_snapshot(&lines, &["= reshape", "= reshape", "= neg", "= exp"]);
        assert!(lines[1].contains("reshape{shape=[32]} (a)"), "{lines:#?}");
        assert!(!lines[3].contains(lines[2].split(' ').next().unwrap_or_default()), "{lines:#?}");
    }

    #[test]
    fn a_sum_with_plus_zero_stays() {
        let mut g = Graph::new();
        let a = g.input("a", TensorDesc::f32(&[3]).unwrap()).unwrap();
        let zero = g.scalar(0.0).unwrap();
        let y = g.add(Add, &[a, zero]).unwrap();
        g.set_output("y", y).unwrap();
        assert_snapshot(&after(run, g), &["= add (a"]);
    }

    #[test]
    fn constants_are_computed_with_broadcasting() {
        let mut g = Graph::new();
        let column = g.constant(Tensor::from_slice(&[2, 1], &[1f32, 2.0]).unwrap());
        let row = g.constant(Tensor::from_slice(&[3], &[10f32, 20.0, 30.0]).unwrap());
        let sum = g.add(Add, &[column, row]).unwrap();
        let flat = g.add(Reshape::to(&[6]), &[sum]).unwrap();
        let y = g.add(Neg, &[flat]).unwrap();
        g.set_output("y", y).unwrap();
        run(&mut g).unwrap();
        g.verify().unwrap();
        assert!(g.nodes().is_empty());
        let Source::Constant(tensor) = &g.get(g.find("y").unwrap()).source else { panic!() };
        let want = [-11f32, -21.0, -31.0, -12.0, -22.0, -32.0];
        assert_eq!(tensor.to_vec::<f32>().unwrap(), want);
    }

    #[test]
    fn nothing_stands_for_what_is_overwritten() {
        let mut g = Graph::new();
        let w = g.parameter("w", TensorDesc::f32(&[3]).unwrap(), true).unwrap();
        let one = g.scalar(1.0).unwrap();
        let old = g.add(Mul, &[w, one]).unwrap();
        g.set_output("old", old).unwrap();
        let lr = g.input("lr", TensorDesc::f32(&[]).unwrap()).unwrap();
        g.call("sgd", &[], &[w, old, lr, one]).unwrap();
        assert_snapshot(&after(run, g), &["= mul (w"]);
    }
}
