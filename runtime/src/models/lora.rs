//! Low-rank adapters (Hu et al. 2021): `y = W x + (alpha / r) B A x`, with `W` frozen.

use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::tensor::TensorDesc;

/// The projections of a block that an adapter may sit on.
pub const PROJECTIONS: &[&str] =
    &["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Which adapters a model gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// Rank `r` of the adapters.
    pub rank: usize,
    /// Scale numerator; the adapter's output is multiplied by `alpha / rank`.
    pub alpha: f32,
    /// Which of [`PROJECTIONS`].
    pub targets: Vec<String>,
}

impl Lora {
    /// Adapters of `rank` on the query and value projections, `alpha = 2 rank`.
    #[must_use]
    pub fn of_rank(rank: usize) -> Self {
        let targets = ["q_proj", "v_proj"].map(str::to_owned).to_vec();
        Self { rank, alpha: 2.0 * rank as f32, targets }
    }

    /// Refuses a rank of 0 and unknown targets.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check(&self) -> Result<()> {
        if self.rank == 0 || self.rank > 4096 {
            return Err(Error::Usage(format!(
                "a LoRA rank of {} cannot train; give one from 1 to 4096",
                self.rank
            )));
        }
        if !self.alpha.is_finite() || self.targets.is_empty() {
            return Err(Error::Usage("LoRA needs a finite alpha and at least one target".into()));
        }
        match self.targets.iter().find(|t| !PROJECTIONS.contains(&t.as_str())) {
            None => Ok(()),
            Some(unknown) => Err(Error::NotFound {
                kind: "projection",
                name: unknown.clone(),
                known: PROJECTIONS.iter().map(|&p| p.to_owned()).collect(),
            }),
        }
    }

    /// Adds the adapter of the weight called `name` ([out, in]) to `y`, the weight's own product
    /// with `x`.
    pub(super) fn apply(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        y: ValueId,
    ) -> Result<ValueId> {
        let (inputs, outputs) = (graph.desc(x).cols(), graph.desc(y).cols());
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let a = TensorDesc::f32(&[self.rank, inputs])?;
        let b = TensorDesc::f32(&[outputs, self.rank])?;
        let a = graph.parameter(&format!("{stem}.lora_A.weight"), a, true)?;
        let b = graph.parameter(&format!("{stem}.lora_B.weight"), b, true)?;
        let down = graph.call("linear", &[], &[x, a])?[0];
        // Scaled where it is narrowest.
        let scale = graph.scalar(self.alpha / self.rank as f32)?;
        let down = graph.call("mul", &[], &[down, scale])?[0];
        let up = graph.call("linear", &[], &[down, b])?[0];
        Ok(graph.call("add", &[], &[y, up])?[0])
    }
}
