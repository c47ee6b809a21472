//! Convolutions.

use super::{Build, Built, Rule, Stop};
use tenon_runtime::graph::ValueId;
use tenon_runtime::ops::Attr;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("nn.functional.conv1d", conv1d),
    ("nn.functional.conv2d", conv2d),
    ("nn.functional.conv_transpose2d", conv_transpose2d),
];

/// One number for both axes, or one each.
fn pair(b: &Build<'_>, name: &str, i: usize, default: i64) -> [i64; 2] {
    match b.arg(i, name).ints().unwrap_or_default()[..] {
        [] => [default; 2],
        [one] => [one; 2],
        [rows, columns, ..] => [rows, columns],
    }
}

fn ints(values: &[i64]) -> Attr {
    Attr::Ints(values.to_vec())
}

/// Padding as top, left, bottom, right. "same" keeps the size, the odd one going to the end.
fn padding(b: &Build<'_>, dilation: [i64; 2], kernel: [i64; 2]) -> [i64; 4] {
    match b.word(4, "padding", "") {
        "same" => {
            let all = [0, 1].map(|i| dilation[i] * (kernel[i] - 1));
            [all[0] / 2, all[1] / 2, all[0] - all[0] / 2, all[1] - all[1] / 2]
        }
        _ => {
            let [rows, columns] = pair(b, "padding", 4, 0);
            [rows, columns, rows, columns]
        }
    }
}

/// `x` with a batch axis, and whether it had none.
fn batched(b: &mut Build<'_>, x: ValueId, rank: usize) -> Result<(ValueId, bool), Stop> {
    let dims = b.dims(x);
    if dims.len() == rank {
        return Ok((x, false));
    }
    let with: Vec<usize> = std::iter::once(1).chain(dims).collect();
    Ok((b.reshape(x, &with)?, true))
}

fn unbatched(b: &mut Build<'_>, y: ValueId, had_none: bool) -> Built {
    let dims = b.dims(y);
    Build::one(b.reshape(y, &dims[usize::from(had_none)..]))
}

fn conv2d(b: &mut Build<'_>) -> Built {
    let (x, w) = (b.input()?, b.tensor(1, "weight")?);
    let (x, single) = batched(b, x, 4)?;
    let shape = b.dims(w);
    let dilation = pair(b, "dilation", 5, 1);
    let padding = padding(b, dilation, [shape[2] as i64, shape[3] as i64]);
    let attrs = [
        ("stride", ints(&pair(b, "stride", 3, 1))),
        ("dilation", ints(&dilation)),
        ("padding", ints(&padding)),
        ("groups", (b.number(6, "groups", 1.0) as i64).into()),
    ];
    let inputs: Vec<_> = [x, w].into_iter().chain(b.optional(2, "bias")).collect();
    let y = b.call("conv2d", &attrs, &inputs)?;
    unbatched(b, y, single)
}

/// Rows of height one.
fn conv1d(b: &mut Build<'_>) -> Built {
    let (x, w) = (b.input()?, b.tensor(1, "weight")?);
    let (x, single) = batched(b, x, 3)?;
    let (xs, ws) = (b.dims(x), b.dims(w));
    let x = b.reshape(x, &[xs[0], xs[1], 1, xs[2]])?;
    let w = b.reshape(w, &[ws[0], ws[1], 1, ws[2]])?;
    let dilation = pair(b, "dilation", 5, 1)[1];
    let [_, left, _, right] = padding(b, [1, dilation], [1, ws[2] as i64]);
    let attrs = [
        ("stride", ints(&[1, pair(b, "stride", 3, 1)[1]])),
        ("dilation", ints(&[1, dilation])),
        ("padding", ints(&[0, left, 0, right])),
        ("groups", (b.number(6, "groups", 1.0) as i64).into()),
    ];
    let inputs: Vec<_> = [x, w].into_iter().chain(b.optional(2, "bias")).collect();
    let y = b.call("conv2d", &attrs, &inputs)?;
    let ys = b.dims(y);
    let y = b.reshape(y, &[ys[0], ys[1], ys[3]])?;
    unbatched(b, y, single)
}

fn conv_transpose2d(b: &mut Build<'_>) -> Built {
    let (x, w) = (b.input()?, b.tensor(1, "weight")?);
    let (x, single) = batched(b, x, 4)?;
    let (stride, extra) = (pair(b, "stride", 3, 1), pair(b, "output_padding", 5, 0));
    if extra[0] >= stride[0] || extra[1] >= stride[1] {
        return Err(Stop::LeftOut("output_padding not below the stride".into()));
    }
    let [rows, columns] = pair(b, "padding", 4, 0);
    let attrs = [
        ("stride", ints(&pair(b, "stride", 3, 1))),
        ("padding", ints(&[rows, columns, rows, columns])),
        ("output_padding", ints(&extra)),
        ("groups", (b.number(6, "groups", 1.0) as i64).into()),
        ("dilation", ints(&pair(b, "dilation", 7, 1))),
    ];
    let inputs: Vec<_> = [x, w].into_iter().chain(b.optional(2, "bias")).collect();
    let y = b.call("conv_transpose2d", &attrs, &inputs)?;
    unbatched(b, y, single)
}
