//! Random programs over the C functions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenon_fuzz::Unstructured;
use tenon_fuzz::program::run;
use tenon_fuzz::reach::expect;

fuzz_target!(
    init: expect(&[
        "a model", "a network", "an op", "a session", "a step", "an evaluation", "a first part",
        "another budget", "a tensor shared", "a tensor taken", "a round", "a load", "a set",
        "a message", "a message added", "a sub-model",
    ]),
    |data: &[u8]| {
        let _ = run(&mut Unstructured::new(data));
    }
);
