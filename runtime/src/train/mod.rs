//! Optimizer, schedules, clipping, accumulation over an executor.
