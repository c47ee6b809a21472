//! Does a device compute what it should? Every op's cases, forward and backward, on a backend.
//!
//! Forward results are compared with those of a reference backend within the op's tolerance, and
//! gradients with finite differences of the same backend's forward results. What a phone's driver gets
//! wrong, it gets wrong silently: this is the first thing to ask of a device with odd losses.

mod cases;

use std::sync::Arc;

pub use cases::{GradientCheck, Made, Numbers, check_gradient, elements, make, run, tensor};

use crate::backend::{Backend, Launch};
use crate::error::{Error, Result};
use crate::ops::{Case, Gradient, OpEntry, table};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The op's results with the reference's.
    Forward,
    /// The gradient toward this operand with finite differences.
    Gradient(usize),
}

/// One comparison to make.
#[derive(Clone, Debug)]
pub struct Check {
    /// The op's row.
    pub entry: &'static OpEntry,
    /// The op with its operands.
    pub case: Case,
    /// What the operands' elements are drawn by.
    pub seed: u64,
    /// What is compared.
    pub direction: Direction,
}

/// What came of a [`Check`].
#[derive(Debug)]
pub enum Verdict {
    /// It is right: the error in units of what is allowed, at most 1.
    Passed(f64),
    /// The backend does not claim the op on such operands.
    Skipped,
    /// The error in units of what is allowed, above 1.
    Wrong(f64),
    /// It did not come to a result.
    Failed(Error),
}

/// Every comparison of the op table.
pub fn checks() -> impl Iterator<Item = Check> {
    table().iter().flat_map(|entry| {
        let cases = (entry.cases)().into_iter().enumerate().filter(|(_, case)| !case.bench);
        cases.flat_map(move |(i, case)| {
            let gradients = (0..case.operands.len())
                .filter(|&i| entry.gradient == Gradient::Vjp && case.operands[i].differentiate)
                .map(Direction::Gradient);
            let directions: Vec<_> = std::iter::once(Direction::Forward).chain(gradients).collect();
            directions.into_iter().map(move |direction| Check {
                entry,
                case: case.clone(),
                seed: i as u64 + 1,
                direction,
            })
        })
    })
}

/// Elements in the rows of [`ends`]: of a vector of 16 there is every number left over, and of 8 and 4.
const ENDS: std::ops::RangeInclusive<usize> = 17..=31;

/// Comparisons of what every op that works element by element or row by row makes of the end of a row,
/// which vectors do not fill: its first case, forward, with rows of every length of [`ENDS`].
pub fn ends() -> impl Iterator<Item = Check> {
    table().iter().flat_map(|entry| {
        let case = (entry.cases)().into_iter().find(works_along);
        let cases =
            case.into_iter().flat_map(|case| ENDS.filter_map(move |len| case.with_row(len)));
        cases.map(|case| Check { entry, case, seed: 1, direction: Direction::Forward })
    })
}

/// Whether a case's last axis is one that a kernel goes along.
fn works_along(case: &Case) -> bool {
    let inputs = case.descs();
    let Ok(outputs) = case.op.infer(&inputs) else { return false };
    let launch = case.op.launch(&inputs, &outputs.iter().collect::<Vec<_>>());
    let along = matches!(
        launch,
        Launch::Unary(_)
            | Launch::Binary(_)
            | Launch::Select
            | Launch::Cast
            | Launch::Fused(_)
            | Launch::Row(_)
    );
    along && !case.bench
}

impl Check {
    /// Makes the comparison. A gradient's graph may hold ops that the backend does not claim; the
    /// reference runs those.
    #[must_use]
    pub fn run(&self, backend: &Arc<dyn Backend>, reference: &Arc<dyn Backend>) -> Verdict {
        match self.excess(backend, reference) {
            Ok(None) => Verdict::Skipped,
            Ok(Some(excess)) if excess <= 1.0 => Verdict::Passed(excess),
            Ok(Some(excess)) => Verdict::Wrong(excess),
            Err(error) => Verdict::Failed(error),
        }
    }

    fn excess(
        &self,
        backend: &Arc<dyn Backend>,
        reference: &Arc<dyn Backend>,
    ) -> Result<Option<f64>> {
        if !make(&self.case, self.seed)?.is_claimed(&**backend) {
            return Ok(None);
        }
        match self.direction {
            Direction::Forward => {
                let got = run(&self.case, backend, self.seed)?;
                let want = run(&self.case, reference, self.seed)?;
                let tolerance = self.entry.tolerance;
                let pairs = got.iter().zip(&want);
                let worst = pairs.map(|(g, w)| tolerance.excess(g, w)).fold(0f32, f32::max);
                Ok(Some(f64::from(worst)))
            }
            Direction::Gradient(operand) => {
                let both = [backend.clone(), reference.clone()];
                Ok(Some(check_gradient(&self.case, operand, &both, self.seed)?.excess()))
            }
        }
    }
}
