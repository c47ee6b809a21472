//! How far inputs came, printed in the end: a target whose inputs are all refused early tests little.

use std::collections::BTreeMap;
use std::sync::{Mutex, Once, PoisonError};

static COUNTS: Mutex<BTreeMap<&str, u64>> = Mutex::new(BTreeMap::new());
static AT_EXIT: Once = Once::new();

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> i32;
}

extern "C" fn print() {
    let counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let words: Vec<String> = counts.iter().map(|(name, n)| format!("{n} {name}")).collect();
    println!("reached: {}", words.join(", "));
}

/// Names what inputs should reach, so that what none does counts 0.
pub fn expect(names: &[&'static str]) {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    counts.extend(names.iter().map(|&name| (name, 0)));
    // SAFETY: the function may be called at any time.
    AT_EXIT.call_once(|| {
        // Where it fails, nothing is printed.
        let _ = unsafe { atexit(print) };
    });
}

/// Counts an input that came so far.
pub fn reached(name: &'static str) {
    *COUNTS.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
}
