//! Matrix products.

use super::{Argument, Build, Built, Rule, Stop};
use tenon_runtime::graph::ValueId;
use tenon_runtime::ops::Attr;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("mm", product),
    ("bmm", product),
    ("matmul", matmul),
    ("addmm", addmm),
    ("einsum", einsum),
    ("nn.functional.linear", linear),
    ("nn.functional.scaled_dot_product_attention", attention),
];

fn product(b: &mut Build<'_>) -> Built {
    let (x, y) = (b.input()?, b.tensor(1, "mat2")?);
    Build::one(b.op("matmul", &[x, y]))
}

/// A vector is a matrix of one row (left) or one column (right), and that axis goes again.
fn matmul(b: &mut Build<'_>) -> Built {
    let (mut x, mut y) = (b.input()?, b.tensor(1, "other")?);
    let (left, right) = (b.dims(x), b.dims(y));
    if left.len() == 1 {
        x = b.reshape(x, &[1, left[0]])?;
    }
    if right.len() == 1 {
        y = b.reshape(y, &[right[0], 1])?;
    }
    let z = b.op("matmul", &[x, y])?;
    let mut dims = b.dims(z);
    if right.len() == 1 {
        dims.pop();
    }
    if left.len() == 1 {
        dims.remove(dims.len() - if right.len() == 1 { 1 } else { 2 });
    }
    Build::one(b.reshape(z, &dims))
}

/// `beta x + alpha A B`.
fn addmm(b: &mut Build<'_>) -> Built {
    let (x, left, right) = (b.input()?, b.tensor(1, "mat1")?, b.tensor(2, "mat2")?);
    let (alpha, beta) = (b.number(9, "alpha", 1.0), b.number(9, "beta", 1.0));
    let product = b.op("matmul", &[left, right])?;
    let product = b.affine(product, alpha, 0.0)?;
    let x = b.affine(x, beta, 0.0)?;
    Build::one(b.op("add", &[x, product]))
}

fn linear(b: &mut Build<'_>) -> Built {
    let (x, w) = (b.input()?, b.tensor(1, "weight")?);
    if b.dims(w).len() != 2 {
        return Err(Stop::LeftOut("linear with a vector for a weight".into()));
    }
    let inputs: Vec<_> = [x, w].into_iter().chain(b.optional(2, "bias")).collect();
    Build::one(b.op("linear", &inputs))
}

/// Every operand is brought to all letters' axes in one order; their product is summed over the
/// letters that the answer lacks. Two operands that share a summed letter only go through `matmul`.
fn einsum(b: &mut Build<'_>) -> Built {
    let equation: String = b.word(1, "equation", "").replace(' ', "");
    let (operands, answer) = equation.split_once("->").unwrap_or((&equation, ""));
    if equation.contains('.') {
        return Err(Stop::LeftOut("einsum with an ellipsis".into()));
    }
    let operands: Vec<Vec<char>> = operands.split(',').map(|o| o.chars().collect()).collect();
    let answer: Vec<char> = answer.chars().collect();
    let values = b.list(0);
    if let ([x, y], [left, right]) = (&values[..], &operands[..])
        && let Some(form) = matrix_form(left, right, &answer)
    {
        return Build::one(b.call("matmul", &[("trans_b", Attr::Bool(form))], &[*x, *y]));
    }
    let mut letters = answer.clone();
    for &letter in operands.iter().flatten() {
        if !letters.contains(&letter) {
            letters.push(letter);
        }
    }
    let mut product = None;
    for (&value, own) in values.iter().zip(&operands) {
        let value = spread(b, value, own, &letters)?;
        product = Some(match product {
            None => value,
            Some(so_far) => b.op("mul", &[so_far, value])?,
        });
    }
    let product = product.ok_or_else(|| Stop::LeftOut("einsum of nothing".into()))?;
    let summed: Vec<usize> = (answer.len()..letters.len()).collect();
    Build::one(b.reduce("reduce_sum", product, &summed, false))
}

/// Whether `left, right -> answer` is `matmul`, and then whether the right one is transposed.
fn matrix_form(left: &[char], right: &[char], answer: &[char]) -> Option<bool> {
    let (&k, rows) = left.split_last()?;
    let (&n, kept) = answer.split_last()?;
    let outer = right.len().checked_sub(2)?;
    let batched = outer == 0 || right[..outer] == left[..left.len() - 2];
    if rows != kept || !batched || k == n {
        return None;
    }
    match right[outer..] {
        [a, c] if (a, c) == (k, n) => Some(false),
        [a, c] if (a, c) == (n, k) => Some(true),
        _ => None,
    }
}

/// An operand with axes `own` as one with an axis for each of `letters`, of size 1 where it lacks it.
fn spread(
    b: &mut Build<'_>,
    value: ValueId,
    own: &[char],
    letters: &[char],
) -> Result<ValueId, Stop> {
    if (1..own.len()).any(|i| own[..i].contains(&own[i])) {
        return Err(Stop::LeftOut("einsum along a diagonal".into()));
    }
    let order: Vec<usize> =
        letters.iter().filter_map(|l| own.iter().position(|o| o == l)).collect();
    let dims = b.dims(value);
    let value = b.permute(value, &order)?;
    let spread: Vec<usize> =
        letters.iter().map(|l| own.iter().position(|o| o == l).map_or(1, |i| dims[i])).collect();
    b.reshape(value, &spread)
}

/// PyTorch has heads before positions, Tenon after them.
fn attention(b: &mut Build<'_>) -> Built {
    if b.number(9, "dropout_p", 0.0) != 0.0 {
        return Err(Stop::LeftOut("dropout: another random generator".into()));
    }
    let (q, k, v) = (b.input()?, b.tensor(1, "key")?, b.tensor(2, "value")?);
    let dims = b.dims(q);
    let mut inputs = Vec::new();
    for x in [q, k, v] {
        inputs.push(heads_last(b, x)?);
    }
    let causal = b.flag(9, "is_causal", false);
    let mut attrs: Vec<(&str, Attr)> = Vec::new();
    if let Some(scale) = b.kwarg("scale").number() {
        attrs.push(("scale", scale.into()));
    }
    if !matches!(b.arg(3, "attn_mask"), Argument::Null) {
        return Err(Stop::LeftOut("a mask among the arguments".into()));
    }
    let (heads, shared) = (b.dims(inputs[0])[2], b.dims(inputs[1])[2]);
    if heads % shared != 0 {
        return Err(Stop::LeftOut("attention that broadcasts the queries' heads".into()));
    }
    let (queries, keys) = (b.dims(inputs[0])[1], b.dims(inputs[1])[1]);
    if causal && queries != keys {
        inputs.push(first_keys_mask(b, queries, keys)?);
    } else {
        attrs.push(("causal", causal.into()));
    }
    let out = b.call("attention", &attrs, &inputs)?;
    let out = b.permute(out, &[0, 2, 1, 3])?;
    let mut answer = dims;
    let last = answer.len() - 1;
    answer[last] = b.dims(v)[last];
    Build::one(b.reshape(out, &answer))
}

/// PyTorch's causal mask begins at the first key, Tenon's ends at the last: they differ where there
/// are more keys than queries.
fn first_keys_mask(b: &mut Build<'_>, queries: usize, keys: usize) -> Result<ValueId, Stop> {
    let seen = |i: usize| i % keys <= i / keys;
    let mask: Vec<f32> =
        (0..queries * keys).map(|i| if seen(i) { 0.0 } else { f32::NEG_INFINITY }).collect();
    b.constant(&[queries, keys], &mask)
}

fn heads_last(b: &mut Build<'_>, x: ValueId) -> Result<ValueId, Stop> {
    let dims = b.dims(x);
    let &[ref outer @ .., positions, width] = &dims[..] else {
        return Err(Stop::LeftOut("attention of vectors".into()));
    };
    let (batch, heads) = match *outer {
        [] => (1, 1),
        [batch] => (batch, 1),
        [batch, heads] => (batch, heads),
        _ => return Err(Stop::LeftOut("attention with more than one batch axis".into())),
    };
    let x = b.reshape(x, &[batch, heads, positions, width])?;
    b.permute(x, &[0, 2, 1, 3])
}
