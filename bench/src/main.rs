//! The `tenon` command line.

fn main() {}
