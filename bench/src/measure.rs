//! What memory was really taken, and sizes as people write them.

use std::num::NonZero;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenon_runtime::tensor::{Allocator, SystemAllocator};

/// Counts what goes through it.
#[derive(Clone, Default)]
pub(crate) struct Counting {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Counting {
    /// Most bytes held at once.
    pub(crate) fn peak(&self) -> usize {
        self.counts.peak.load(Ordering::Relaxed)
    }
}

impl Allocator for Counting {
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        let memory = SystemAllocator.allocate(bytes)?;
        let now = self.counts.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.counts.peak.fetch_max(now, Ordering::Relaxed);
        Some(memory)
    }

    unsafe fn release(&self, memory: NonNull<u8>, bytes: usize) {
        self.counts.now.fetch_sub(bytes, Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { SystemAllocator.release(memory, bytes) }
    }

    fn handle(&self) -> Arc<dyn Allocator> {
        Arc::new(self.clone())
    }
}

/// The process's largest resident set so far in bytes, where the system tells.
pub(crate) fn rss_peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
}

/// A size as people read it.
pub(crate) fn human(bytes: usize) -> String {
    indicatif::HumanBytes(bytes as u64).to_string()
}

/// Reads a size such as `300M`, `1.5GiB` or `4096`; units are powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        other => return Err(format!("unknown unit `{other}`; write 300M or 2G")),
    };
    match digits.trim().parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok((value * unit) as usize),
        _ => Err("not a size; write 300M or 2G".to_owned()),
    }
}

/// Reads a number of things of which there must be one.
pub(crate) fn parse_count(text: &str) -> Result<NonZero<usize>, String> {
    text.trim().parse().map_err(|_| "give a whole number from 1 up".to_owned())
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::{parse_count, parse_size};

    #[test]
    fn counts() {
        assert_eq!(parse_count("3").map(NonZero::get), Ok(3));
        assert!(
            parse_count("0").is_err() && parse_count("-1").is_err() && parse_count("x").is_err()
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("300M"), Ok(300 << 20));
        assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert!(parse_size("-1").is_err() && parse_size("5x").is_err() && parse_size("").is_err());
    }
}
