//! What the stand-in is told to be, by the variable `TENON_STAND_IN`: words with commas between them.
//!
//! `level=N` sets the feature level, `cpu` makes it the CPU's reference implementation; the rest are
//! faults: `lost=N` after so many runs, `wrong` answers, `slow=MS` compilations, compilations that
//! `refuse`, and `without=CODE` for operations that the driver does not take.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Debug)]
pub struct Faults {
    pub level: u32,
    pub cpu: bool,
    pub lost: Option<usize>,
    pub wrong: bool,
    pub slow: u64,
    pub refuse: bool,
    pub without: Vec<i32>,
}

static CURRENT: Mutex<Option<Faults>> = Mutex::new(None);
/// Runs since the settings were read.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// Reads the settings anew.
pub fn read() {
    let text = std::env::var("TENON_STAND_IN").unwrap_or_default();
    let mut faults = Faults {
        level: 8,
        cpu: false,
        lost: None,
        wrong: false,
        slow: 0,
        refuse: false,
        without: Vec::new(),
    };
    for word in text.split(',').filter(|w| !w.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, "0"));
        let number: i64 = value.parse().unwrap_or(0);
        match name {
            "level" => faults.level = number as u32,
            "cpu" => faults.cpu = true,
            "lost" => faults.lost = Some(number as usize),
            "wrong" => faults.wrong = true,
            "slow" => faults.slow = number as u64,
            "refuse" => faults.refuse = true,
            "without" => faults.without.push(number as i32),
            _ => {}
        }
    }
    RUNS.store(0, Ordering::SeqCst);
    *CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(faults);
}

/// The settings.
pub fn current() -> Faults {
    if CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_none() {
        read();
    }
    CURRENT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone()
        .expect("they were read")
}

/// Counts a run; whether the device is lost by now.
pub fn is_lost() -> bool {
    let run = RUNS.fetch_add(1, Ordering::SeqCst);
    current().lost.is_some_and(|after| run >= after)
}
