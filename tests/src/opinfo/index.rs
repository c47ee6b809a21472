//! Rows by number.

use super::{Build, Built, Rule, Stop};

pub(super) const RULES: &[(&str, Rule)] =
    &[("nn.functional.embedding", embedding), ("index_select", index_select)];

/// PyTorch's sample has the indices first: `embedding(indices, table)`.
fn embedding(b: &mut Build<'_>) -> Built {
    let (first, second) = (b.input()?, b.tensor(1, "weight")?);
    let indices_first = b.graph.desc(first).dtype() == tenon_runtime::DType::I32;
    let (table, indices) = if indices_first { (second, first) } else { (first, second) };
    Build::one(b.op("embedding", &[table, indices]))
}

/// The axis comes to the front, its rows are looked up, and it goes back.
fn index_select(b: &mut Build<'_>) -> Built {
    let (x, indices) = (b.input()?, b.tensor(2, "index")?);
    let dims = b.dims(x);
    if dims.is_empty() {
        return Err(Stop::LeftOut("a scalar has no rows".into()));
    }
    let axis = b.axis(1, "dim", 0, dims.len());
    let mut order: Vec<usize> = (0..dims.len()).collect();
    order.swap(0, axis);
    let front = b.permute(x, &order)?;
    let mut moved = b.dims(front);
    let rows = b.reshape(front, &[moved[0], moved[1..].iter().product()])?;
    let picked = b.op("embedding", &[rows, indices])?;
    moved[0] = b.dims(indices).iter().product();
    let picked = b.reshape(picked, &moved)?;
    Build::one(b.permute(picked, &order))
}
