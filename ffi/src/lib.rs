//! The C ABI of Tenon; see `include/tenon.h`.
