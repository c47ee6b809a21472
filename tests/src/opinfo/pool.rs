//! Pooling.

use super::{Build, Built, Rule, Stop};
use tenon_runtime::graph::ValueId;
use tenon_runtime::ops::Attr;

pub(super) const RULES: &[(&str, Rule)] =
    &[("nn.functional.avg_pool2d", average), ("nn.functional.max_pool2d", maximum)];

fn sizes(b: &Build<'_>, i: usize, name: &str) -> Option<Attr> {
    b.arg(i, name).ints().filter(|v| !v.is_empty()).map(Attr::Ints)
}

fn window(b: &Build<'_>) -> Vec<(&'static str, Attr)> {
    let names = [(1, "kernel_size", "kernel"), (2, "stride", "stride"), (3, "padding", "padding")];
    names.into_iter().filter_map(|(i, from, to)| Some((to, sizes(b, i, from)?))).collect()
}

fn batched(b: &mut Build<'_>) -> Result<(ValueId, bool), Stop> {
    let x = b.input()?;
    let dims = b.dims(x);
    if dims.len() == 4 {
        return Ok((x, false));
    }
    let with: Vec<usize> = std::iter::once(1).chain(dims).collect();
    Ok((b.reshape(x, &with)?, true))
}

fn unbatched(b: &mut Build<'_>, y: ValueId, single: bool) -> Built {
    let dims = b.dims(y);
    Build::one(b.reshape(y, &dims[usize::from(single)..]))
}

fn average(b: &mut Build<'_>) -> Built {
    let (x, single) = batched(b)?;
    let divisor = b.number(6, "divisor_override", 0.0);
    if divisor < 0.0 {
        return Err(Stop::LeftOut("a negative divisor".into()));
    }
    let mut attrs = window(b);
    attrs.push(("ceil_mode", b.flag(4, "ceil_mode", false).into()));
    attrs.push(("count_include_pad", b.flag(5, "count_include_pad", true).into()));
    attrs.push(("divisor_override", (divisor as i64).into()));
    let y = b.call("avg_pool2d", &attrs, &[x])?;
    unbatched(b, y, single)
}

/// The indices that PyTorch may give besides have no gradient and another element type; the
/// gradient of the maxima judges where they point.
fn maximum(b: &mut Build<'_>) -> Built {
    let (x, single) = batched(b)?;
    let mut attrs = window(b);
    attrs.extend(sizes(b, 4, "dilation").map(|v| ("dilation", v)));
    attrs.push(("ceil_mode", b.flag(5, "ceil_mode", false).into()));
    let y = b.call("max_pool2d", &attrs, &[x])?;
    unbatched(b, y, single)
}
