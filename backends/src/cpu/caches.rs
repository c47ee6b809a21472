//! The sizes of the caches, where the system tells.

use std::path::Path;

use tenon_kernels::gemm::Caches;

/// Linux and Android keep a folder for each cache of a core here; other systems, and some phones,
/// have none, and [`Caches::default`] stands in.
const FOLDER: &str = "/sys/devices/system/cpu/cpu0/cache";

/// The caches of the first core; [`Caches::default`] where the system tells nothing.
#[must_use]
pub fn detect() -> Caches {
    read(Path::new(FOLDER))
}

/// One folder `index0`, `index1`, ... a cache.
fn read(folder: &Path) -> Caches {
    let mut caches = Caches::default();
    let mut found = [false; 2];
    for index in 0..8 {
        let get = |name| std::fs::read_to_string(folder.join(format!("index{index}/{name}")));
        let Ok(level) = get("level") else { break };
        let (Ok(size), Ok(sharers)) = (get("size"), get("shared_cpu_list")) else { continue };
        let Some(bytes) = bytes(size.trim()) else { continue };
        match level.trim() {
            // Threads on other cores fill a shared one too.
            "2" => (caches.l2, found[0]) = ((bytes / cores(sharers.trim())).max(64 << 10), true),
            "3" => (caches.l3, found[1]) = (bytes, true),
            _ => {}
        }
    }
    if found == [true, false] {
        caches.l3 = 0;
    }
    caches
}

/// A size such as `1024K`.
fn bytes(size: &str) -> Option<usize> {
    let digits = size.trim_end_matches(['K', 'M']);
    let unit = match &size[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// Cores in a list such as `0-3,8`, at least 1.
fn cores(list: &str) -> usize {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    list.split(',').filter_map(range).sum::<usize>().max(1)
}

#[cfg(test)]
mod tests {
    use super::{bytes, cores, read};
    use std::fs;
    use tenon_kernels::gemm::Caches;

    #[test]
    fn reads_what_linux_writes() {
        assert_eq!(
            [bytes("48K"), bytes("32M"), bytes("512"), bytes("x")],
            [Some(48 << 10), Some(32 << 20), Some(512), None]
        );
        assert_eq!(["0", "0-3", "0-1,4-5", ""].map(cores), [1, 4, 4, 1]);
        let folder = std::env::temp_dir().join(format!("tenon-caches-{}", std::process::id()));
        assert_eq!(read(&folder), Caches::default());
        let put = |index, level, size, cores| {
            let folder = folder.join(format!("index{index}"));
            fs::create_dir_all(&folder).unwrap();
            for (name, text) in [("level", level), ("size", size), ("shared_cpu_list", cores)] {
                fs::write(folder.join(name), text).unwrap();
            }
        };
        put(0, "1\n", "32K\n", "0\n");
        put(1, "2\n", "512K\n", "0-3\n");
        let without_l3 = read(&folder);
        put(2, "3\n", "8M\n", "0-7\n");
        let with_l3 = read(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(without_l3, Caches { l2: 128 << 10, l3: 0 });
        assert_eq!(with_l3, Caches { l2: 128 << 10, l3: 8 << 20 });
    }
}
