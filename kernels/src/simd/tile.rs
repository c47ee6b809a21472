//! What the register tiles of all levels have in common.

use super::MAX_LANES;

/// Most columns of gemm's register tile on any level.
pub(crate) const MAX_WIDTH: usize = 3 * MAX_LANES;

/// A step of a register tile: `$sum = $new` for every row and column, where `$x` is the row's lane
/// of `$a` in all lanes and `$column` a vector of `$b`.
///
/// A macro, because a closure would be a call without the level's instructions.
macro_rules! tile_step {
    ($s:ident, $a:ident, $b:ident, $sums:ident, |$x:ident, $column:ident, $sum:ident| $new:expr) => {{
        let mut columns = [$s.zero(); NV];
        for v in 0..NV {
            // SAFETY: the caller vouches for `NV` vectors.
            columns[v] = unsafe { $s.load($b.add(v * Self::LANES)) };
        }
        for r in 0..R {
            // SAFETY: the caller vouches for `R` lanes.
            let $x = $s.splat(unsafe { *$a.add(r) });
            for v in 0..NV {
                let ($column, $sum) = (columns[v], $sums[r][v]);
                $sums[r][v] = $new;
            }
        }
    }};
}
pub(crate) use tile_step;
