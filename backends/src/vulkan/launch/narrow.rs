//! Products of a few rows: B is read once, and no invocation waits for rows that are not there.

use super::gemm::{BUSY, Product, format_code};
use super::{Job, LANES, read, update, write};
use crate::vulkan::shader::Shader;

/// Most rows.
const MOST: usize = 8;
/// Columns of an invocation.
const EACH: usize = 4;

impl Product {
    /// Whether it is one of those.
    pub(super) fn is_few(&self) -> bool {
        !self.trans_a && (1..=MOST).contains(&self.sizes[0])
    }

    /// The product of operands that bindings can take; `strides` are elements of rows of A and C.
    pub(super) fn few(&self, job: &mut Job<'_>, strides: [usize; 2]) -> Option<()> {
        let [m, n, _] = self.sizes;
        let count = self.count();
        let groups = |slices: usize| n.div_ceil(EACH * LANES as usize / slices);
        // Invocations that share columns: side by side along stored rows of B, else so few that those
        // beside them read whole lines; more where there would be too few workgroups.
        let [least, most] = if self.trans_b { [32, 256] } else { [8, 64] };
        let enough = |slices: &usize| groups(*slices) * count >= BUSY;
        let mut choices = std::iter::successors(Some(least), |slices| Some(slices * 2));
        let slices = choices.find(|slices| *slices >= most || enough(slices))?;
        let flags = self.operands(strides[0]) | self.epilogue();
        let constants = [LANES, format_code(self.format), flags, m as u32, slices as u32];
        let params = self.params(strides, [0, 1], self.first[2])?;
        let to = if self.add { update(self.c) } else { write(self.c) };
        let bindings = [read(self.a), read(self.b), self.bias.map_or(read(self.a), read), to];
        let grid = [groups(slices), 1, count];
        job.grid(Shader::Narrow, &constants, &params, &bindings, grid)
    }
}
