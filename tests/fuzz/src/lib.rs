//! What the fuzz targets share. Every input is read as choices (`arbitrary`), so that most of them
//! are nearly right and get deep.

pub mod gguf;
pub mod memory;
pub mod model;
pub mod program;
pub mod reach;
pub mod scratch;

pub use arbitrary::{Result as Chosen, Unstructured};

/// True in one of `n` inputs, and not where choices have run out: an input of zeros is an ordinary one.
///
/// # Errors
/// None but those of reading choices.
pub fn rarely(u: &mut Unstructured<'_>, n: u8) -> Chosen<bool> {
    Ok(u.int_in_range(1..=n)? == n)
}

/// Changes some bytes: one in four inputs, at up to four places, and the end of one in sixteen.
///
/// # Errors
/// None but those of reading choices.
pub fn damage(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Chosen<()> {
    if rarely(u, 4)? {
        for _ in 0..u.int_in_range(1..=4)? {
            let Some(last) = bytes.len().checked_sub(1) else { break };
            // Headers are short and stand first.
            let most = if u.ratio(3, 4)? { last.min(255) } else { last };
            let at = u.int_in_range(0..=most)?;
            bytes[at] = u.arbitrary()?;
        }
    }
    if rarely(u, 16)? {
        let len = u.int_in_range(0..=bytes.len())?;
        bytes.truncate(len);
    }
    Ok(())
}

/// Sizes at the edges of blocks and vectors, and far too many.
pub const SIZES: &[u64] =
    &[0, 1, 2, 3, 4, 8, 16, 31, 32, 33, 64, 257, 1 << 20, 1 << 31, 1 << 44, 1 << 60, u64::MAX];
