//! The roof over a target's figures: the rates of multiply-adds in registers, and of memory.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenon_bench::limits::{MultiplyAdds, Read, Triad};
use tenon_kernels::Isa;
use tenon_kernels::gemm::Precision;
use tenon_runtime::Result;

use super::sample::sample;

/// Bytes that all operands together take, where memory's rates are measured: within a first-level
/// cache, within a second and a third one, at about the third's size, where rates fall by half from one
/// size to the next, and beyond.
const SIZES: [usize; 7] = [24 << 10, 192 << 10, 384 << 10, 12 << 20, 32 << 20, 48 << 20, 192 << 20];

/// Time of one measurement.
const TIME: Duration = Duration::from_millis(25);

/// What one level reaches on some threads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peaks {
    /// The level.
    pub(crate) isa: String,
    /// Threads at once.
    pub(crate) threads: usize,
    /// GFLOP/s of f32 multiply-adds.
    pub(crate) f32_gflops: f64,
    /// GFLOP/s of products of bfloat16, or of f32 where the level has none of its own.
    pub(crate) bf16_gflops: f64,
    /// The same of bytes.
    pub(crate) int8_gflops: f64,
    /// Bytes of operands, and GB/s when they are only read.
    pub(crate) read_gbps: Vec<(usize, f64)>,
    /// Bytes of operands, and GB/s of `a = b + s c`.
    pub(crate) triad_gbps: Vec<(usize, f64)>,
}

impl Peaks {
    pub(crate) fn measure(isa: Isa, threads: usize) -> Result<Self> {
        let products = |kind: MultiplyAdds| -> Result<f64> {
            Ok(kind.flops() * 1e-9 * together(threads, || move || kind.run(isa))?)
        };
        let (mut read_gbps, mut triad_gbps) = (Vec::new(), Vec::new());
        for bytes in SIZES {
            let len = bytes / size_of::<f32>() / threads;
            let gigabytes = (len * size_of::<f32>()) as f64 * 1e-9;
            let rate = together(threads, || {
                let data = vec![1.0; len];
                move || {
                    std::hint::black_box(isa.run(Read(&data)));
                }
            })?;
            read_gbps.push((bytes, rate * gigabytes));
            let rate = together(threads, || {
                let [mut a, b, c] = [(); 3].map(|()| vec![1.0; len / 3]);
                move || isa.run(Triad(&mut a, &b, &c))
            })?;
            triad_gbps.push((bytes, rate * gigabytes));
        }
        let f32_gflops = products(MultiplyAdds::Single)?;
        Ok(Self {
            isa: isa.name().to_owned(),
            threads,
            f32_gflops,
            bf16_gflops: products(MultiplyAdds::Pairs)?.max(f32_gflops),
            int8_gflops: products(MultiplyAdds::Bytes)?.max(f32_gflops),
            read_gbps,
            triad_gbps,
        })
    }

    /// GFLOP/s of products that round to `precision`.
    pub(crate) fn gflops(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.f32_gflops,
            Precision::Bf16 => self.bf16_gflops,
            Precision::Int8 => self.int8_gflops,
        }
    }

    /// GB/s of operands of so many bytes, most of them only read or not.
    pub(crate) fn gbps(&self, bytes: f64, reads: bool) -> f64 {
        let rates = if reads { &self.read_gbps } else { &self.triad_gbps };
        let fitting = rates.iter().find(|(size, _)| *size as f64 >= bytes).or(rates.last());
        fitting.map_or(f64::NAN, |(_, rate)| *rate)
    }

    /// GB/s beyond all caches, of reading and of the triad.
    pub(crate) fn memory(&self) -> (f64, f64) {
        (self.gbps(f64::INFINITY, true), self.gbps(f64::INFINITY, false))
    }
}

impl Display for Peaks {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (read, triad) = self.memory();
        let Self { f32_gflops, bf16_gflops, int8_gflops, .. } = self;
        write!(
            f,
            "{f32_gflops:.0} GFLOP/s f32, {bf16_gflops:.0} bf16, {int8_gflops:.0} int8; memory read at \
             {read:.1}, triad {triad:.1} GB/s"
        )
    }
}

/// Calls a second of what `make` gives, on several threads at once, all together.
fn together<R: FnMut() + Send>(threads: usize, make: impl Fn() -> R) -> Result<f64> {
    let runs: Vec<R> = (0..threads).map(|_| make()).collect();
    std::thread::scope(|scope| {
        let spawned: Vec<_> = runs
            .into_iter()
            .map(|mut run| {
                scope.spawn(move || {
                    sample(TIME, &mut || {
                        run();
                        Ok(())
                    })
                })
            })
            .collect();
        let rate = |taken: Result<super::sample::Sample>| Ok(1.0 / taken?.best);
        spawned
            .into_iter()
            .map(|thread| {
                rate(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
            .sum()
    })
}
