//! `z[i] = f(a[i], b[i])` with broadcasting.

use tenon_kernels::binary::{self, Binary};
use tenon_kernels::broadcast::Broadcast;
use tenon_runtime::Result;

use super::Context;
use super::args::{Args, GRAIN, split};

/// Runs `op` on inputs 0 and 1, of which output 0 may replace one that has its shape.
pub(super) fn launch(cx: &Context, op: Binary, args: Args<'_>) -> Result<()> {
    let plan = Broadcast::new([args.input_desc(0).shape(), args.input_desc(1).shape()])
        .map_err(|e| args.unsupported(&e))?;
    let [a, b] = [0, 1].map(|i| args.input_address::<f32>(i));
    let z = args.output_address::<f32>(0);
    let part = split(plan.len(), GRAIN);
    cx.pool.run(plan.len().div_ceil(GRAIN), &|task, _| {
        let operands = (a.at(0).cast_const(), b.at(0).cast_const());
        // SAFETY: operands have the plan's shapes; tasks take disjoint ranges of the output, which
        // is apart from the operands or equal to one of its size.
        unsafe { binary::apply(cx.isa, op, &plan, part(task), operands, z.at(0)) };
    });
    Ok(())
}
