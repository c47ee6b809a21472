//! The op table's cases that are sizes to time, each as a graph of one node.

use tenon_runtime::Result;
use tenon_runtime::check::make;
use tenon_runtime::executor::Executor;
use tenon_runtime::ops::{Case, table};
use tenon_runtime::tensor::TensorDesc;

use super::row::{Ready, Row, Work, precision};
use crate::targets::Target;

/// Bytes that a processor's second cache holds with room to spare. Where operands lie in it, a kernel's
/// own pace is seen; beyond, that of memory, which it shares with other programs, and on rented machines
/// with other people's: at 16 MiB an operand, figures of two runs differed by more than 5 % in a row of
/// six. At three quarters of that cache they differed by 15 %, by which pages a process had.
const NEAR: usize = 384 << 10;

/// Every case to time.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    table().iter().flat_map(|entry| (entry.cases)()).filter(|case| case.bench)
}

/// The case at the size to time on a target: of what any number of rows says as much, a processor gets
/// what lies near, other devices as much as keeps all of them busy.
pub(crate) fn sized(case: Case, target: &Target) -> Case {
    if target.isa.is_some() { case.fitting(NEAR) } else { case }
}

/// What a case's row is of.
pub(crate) fn named(case: &Case) -> Row {
    let attrs = case.op.attrs();
    let attrs: Vec<_> = attrs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let shapes = case.operands.iter().map(|operand| shape(&operand.desc));
    Row {
        kernel: case.op.name().to_owned(),
        shape: shapes.collect::<Vec<_>>().join(" "),
        dtype: case.dtype().name().to_owned(),
        attrs: attrs.join(" "),
        ..Row::default()
    }
}

/// A case ready to run; `None` where the target does not claim it.
pub(crate) fn ready(case: &Case, target: &Target) -> Result<Option<Ready>> {
    let made = make(case, 1)?;
    if !made.is_claimed(&*target.backend) {
        return Ok(None);
    }
    let inputs = case.descs();
    let outputs = case.op.infer(&inputs)?;
    let outputs: Vec<&TensorDesc> = outputs.iter().collect();
    let bytes = |descs: &[&TensorDesc]| descs.iter().map(|desc| desc.bytes()).sum::<usize>();
    let written = case.op.mutates().iter().map(|&i| inputs[i].bytes()).sum::<usize>();
    let work = Work {
        cost: case.op.cost(&inputs, &outputs),
        precision: precision(&case.op.launch(&inputs, &outputs)),
        reads: 8 * (bytes(&outputs) + written) < bytes(&inputs),
    };
    let mut executor = Executor::new(made.graph, &target.backends(), &made.tensors)?;
    Ok(Some(Ready {
        work,
        under_roof: true,
        items: None,
        picture: None,
        allocated_bytes: executor.plan().peak_bytes(),
        run: Box::new(move || executor.run(&mut ())),
    }))
}

fn shape(desc: &TensorDesc) -> String {
    let dims: Vec<String> = desc.shape().iter().map(ToString::to_string).collect();
    if dims.is_empty() { "1".to_owned() } else { dims.join("x") }
}
