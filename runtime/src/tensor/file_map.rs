//! Files mapped for reading.

use std::ops::{Deref, Range};
use std::sync::{Mutex, PoisonError};

use memmap2::Mmap;

/// What is let go of at once, in bytes. The system makes what lies around a read resident too: 64 KiB
/// (Linux's fault-around), and since Linux 6.18 all of what its cache holds in one piece, up to this.
/// Matrix by matrix, a step of LoRA on SmolLM2 asked 717 times in place of 153, each time also for
/// what lies around, which the next matrix then faulted in again. On two threads each asks the other core
/// and waits: 10 steps took 0.8 to 3.5 s of the system, and take 0.6 to 1.5.
const PIECE: usize = 2 << 20;

/// The bytes of a file, mapped for reading.
#[derive(Debug)]
pub struct FileMap {
    bytes: Mmap,
    /// What was read for the last time and is yet to be let go of.
    done: Mutex<Range<usize>>,
}

impl FileMap {
    /// The file that `bytes` are of.
    #[must_use]
    pub fn new(bytes: Mmap) -> Self {
        Self { bytes, done: Mutex::new(0..0) }
    }

    /// Lets the system take back the pages of a range, once there are enough of them; whoever reads
    /// them next finds them in the system's cache, or the file.
    pub fn release(&self, range: Range<usize>) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        // Files have their matrices in the order of use: what lies between two is seldom needed.
        let all = if done.is_empty() {
            range
        } else {
            done.start.min(range.start)..done.end.max(range.end)
        };
        *done = if all.len() < PIECE { all.clone() } else { 0..0 };
        drop(done);
        if all.len() >= PIECE {
            self.release_now(all);
        }
    }

    /// Lets go of a range and what lies around it.
    pub(crate) fn release_now(&self, range: Range<usize>) {
        let start = range.start / PIECE * PIECE;
        let range = start..range.end.next_multiple_of(PIECE).min(self.bytes.len()).max(start);
        #[cfg(unix)]
        // SAFETY: the map is read-only and of a file, whose bytes come back when read. It is advice:
        // where it is not taken, the pages stay.
        let _ = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            self.bytes.unchecked_advise_range(advice, range.start, range.len())
        };
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
