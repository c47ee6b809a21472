//! Operators that only move elements.

use super::build::wrap;
use super::{Build, Built, Rule, Stop};
use tenon_runtime::graph::ValueId;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("expand", expand),
    ("permute", permute),
    ("transpose", transpose),
    ("narrow", narrow),
    ("split", split),
    ("cat", cat),
    ("stack", stack),
    ("repeat", repeat),
    ("tril", |b| triangle(b, |row, column, k| column <= row + k)),
    ("triu", |b| triangle(b, |row, column, k| column >= row + k)),
    ("nn.functional.pad", pad),
];

fn expand(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let from = b.dims(x);
    let to = b.arg(1, "size").ints().unwrap_or_default();
    let extra = to.len() - from.len();
    let dims: Vec<usize> =
        (0..to.len()).map(|i| usize::try_from(to[i]).unwrap_or_else(|_| from[i - extra])).collect();
    Build::one(b.broadcast(x, &dims))
}

fn permute(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let rank = b.dims(x).len();
    let axes = b.arg(1, "dims").ints().unwrap_or_default();
    let axes: Vec<usize> = axes.iter().map(|&a| wrap(a, rank)).collect();
    Build::one(b.permute(x, &axes))
}

fn transpose(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let rank = b.dims(x).len();
    let (first, second) = (b.axis(1, "dim0", 0, rank), b.axis(2, "dim1", 1, rank));
    let mut axes: Vec<usize> = (0..rank).collect();
    if rank > 0 {
        axes.swap(first, second);
    }
    Build::one(b.permute(x, &axes))
}

fn narrow(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let dims = b.dims(x);
    let axis = b.axis(1, "dim", 0, dims.len());
    let start = match b.content(2, "start") {
        Ok(array) => array.values[0],
        Err(_) => b.number(2, "start", 0.0),
    };
    let start = wrap(start as i64, dims[axis]);
    let length = b.number(3, "length", 0.0) as usize;
    Build::one(b.slice(x, axis, start, start + length))
}

/// One length for all parts (the last may be shorter), or one for each.
fn split(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let dims = b.dims(x);
    let axis = b.axis(2, "dim", 0, dims.len());
    let lengths = match b.arg(1, "split_size") {
        super::Argument::List(_) => b.arg(1, "split_size").ints().unwrap_or_default(),
        size => {
            let size = size.number().unwrap_or(1.0) as usize;
            let starts = (0..dims[axis]).step_by(size);
            starts.map(|s| size.min(dims[axis] - s) as i64).collect()
        }
    };
    let mut start = 0;
    let mut parts = Vec::new();
    for length in lengths {
        parts.push(b.slice(x, axis, start, start + length as usize)?);
        start += length as usize;
    }
    Ok(parts)
}

fn cat(b: &mut Build<'_>) -> Built {
    let mut parts = b.list(0);
    // An operand of shape [0] has no influence, whatever the others' rank.
    if parts.iter().any(|&p| b.dims(p) != [0]) {
        parts.retain(|&p| b.dims(p) != [0]);
    }
    let rank = b.dims(parts[0]).len();
    let axis = b.axis(1, "dim", 0, rank);
    Build::one(b.concat(&parts, axis))
}

fn stack(b: &mut Build<'_>) -> Built {
    let mut dims = b.dims(b.list(0)[0]);
    let axis = b.axis(1, "dim", 0, dims.len() + 1);
    dims.insert(axis, 1);
    let mut parts = Vec::new();
    for part in b.list(0) {
        parts.push(b.reshape(part, &dims)?);
    }
    Build::one(b.concat(&parts, axis))
}

/// Each axis gets a new one before it, which is then broadcast.
fn repeat(b: &mut Build<'_>) -> Built {
    let x = b.input()?;
    let times = b.arg(1, "repeats").ints().unwrap_or_default();
    let mut from = vec![1; times.len() - b.dims(x).len()];
    from.extend(b.dims(x));
    let mut y = b.reshape(x, &from)?;
    for (axis, &times) in times.iter().enumerate() {
        let mut apart = b.dims(y);
        apart.insert(axis, 1);
        y = b.reshape(y, &apart)?;
        apart[axis] = times as usize;
        y = b.broadcast(y, &apart)?;
        apart[axis + 1] *= times as usize;
        apart.remove(axis);
        y = b.reshape(y, &apart)?;
    }
    Ok(vec![y])
}

/// Zeros outside a triangle of the last two axes.
fn triangle(b: &mut Build<'_>, inside: fn(i64, i64, i64) -> bool) -> Built {
    let x = b.input()?;
    let dims = b.dims(x);
    let k = b.number(1, "diagonal", 0.0) as i64;
    let [rows, columns] = *dims.last_chunk::<2>().ok_or(Stop::LeftOut("no matrix".into()))?;
    let mask: Vec<f32> = (0..rows * columns)
        .map(|i| inside((i / columns) as i64, (i % columns) as i64, k))
        .map(|inside| f32::from(u8::from(inside)))
        .collect();
    let mask = b.constant(&[rows, columns], &mask)?;
    let zero = b.scalar(0.0)?;
    Build::one(b.op("select", &[mask, x, zero]))
}

/// Pads the last axes, innermost first; negative amounts cut.
fn pad(b: &mut Build<'_>) -> Built {
    let mut y = b.input()?;
    let amounts = b.arg(1, "pad").ints().unwrap_or_default();
    let mode = b.word(2, "mode", "constant");
    let value = b.number(3, "value", 0.0);
    let rank = b.dims(y).len();
    for (i, pair) in amounts.chunks(2).enumerate() {
        let axis = rank - 1 - i;
        y = cut(b, y, axis, pair)?;
        let (before, after) = (pair[0].max(0) as usize, pair[1].max(0) as usize);
        if (before, after) == (0, 0) {
            continue;
        }
        y = match mode {
            "constant" => constant_pad(b, y, axis, before, after, value)?,
            mode => copied_pad(b, y, axis, before, after, mode)?,
        };
    }
    Ok(vec![y])
}

fn cut(b: &mut Build<'_>, x: ValueId, axis: usize, pair: &[i64]) -> Result<ValueId, Stop> {
    let length = b.dims(x)[axis];
    let (start, end) = ((-pair[0]).max(0) as usize, length as i64 - (-pair[1]).max(0));
    if start as i64 >= end {
        return Err(Stop::LeftOut(
            "replication of an axis that a negative pad leaves empty".into(),
        ));
    }
    b.slice(x, axis, start, end as usize)
}

fn constant_pad(
    b: &mut Build<'_>,
    x: ValueId,
    axis: usize,
    before: usize,
    after: usize,
    value: f64,
) -> Result<ValueId, Stop> {
    let rank = b.dims(x).len();
    let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
    (low[axis], high[axis]) = (before, after);
    let attrs = [("low", low[..].into()), ("high", high[..].into()), ("value", value.into())];
    b.call("pad", &attrs, &[x])
}

/// Padding with the tensor's own elements: a slice for each, put around it.
fn copied_pad(
    b: &mut Build<'_>,
    x: ValueId,
    axis: usize,
    before: usize,
    after: usize,
    mode: &str,
) -> Result<ValueId, Stop> {
    let n = b.dims(x)[axis] as i64;
    let source = |i: i64| match mode {
        "replicate" => i.clamp(0, n - 1),
        "circular" => i.rem_euclid(n),
        _ if i < 0 => -i,
        _ if i >= n => 2 * (n - 1) - i,
        _ => i,
    };
    let mut parts = Vec::new();
    for i in -(before as i64)..0 {
        parts.push(b.slice(x, axis, source(i) as usize, source(i) as usize + 1)?);
    }
    parts.push(x);
    for i in n..n + after as i64 {
        parts.push(b.slice(x, axis, source(i) as usize, source(i) as usize + 1)?);
    }
    b.concat(&parts, axis)
}
