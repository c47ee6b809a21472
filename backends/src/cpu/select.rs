//! One of two values by a condition, with broadcasting.

use tenon_kernels::binary::select;
use tenon_kernels::broadcast::Broadcast;
use tenon_runtime::Result;

use super::Context;
use super::args::{Args, GRAIN, split};

/// Output 0 takes input 1 where input 0 is not zero, else input 2, and may replace one that has
/// its shape.
pub(super) fn launch(cx: &Context, args: Args<'_>) -> Result<()> {
    let shapes = [0, 1, 2].map(|i| &args.input_desc(i).shape()[..]);
    let plan = Broadcast::new(shapes).map_err(|e| args.unsupported(&e))?;
    let [cond, a, b] = [0, 1, 2].map(|i| args.input_address::<f32>(i));
    let z = args.output_address::<f32>(0);
    let part = split(plan.len(), GRAIN);
    cx.pool.run(plan.len().div_ceil(GRAIN), &|task, _| {
        let operands = (cond.at(0).cast_const(), a.at(0).cast_const(), b.at(0).cast_const());
        // SAFETY: operands have the plan's shapes; tasks take disjoint ranges of the output, which
        // is apart from the operands or equal to one of its size.
        unsafe { select(cx.isa, &plan, part(task), operands, z.at(0)) };
    });
    Ok(())
}
