//! Speed of convolution and pooling on one thread: `cargo bench -p tenon-bench --bench conv
//! [FILTER]`.
//!
//! Convolutions count floating-point operations as criterion's elements, so their `Gelem/s` are
//! GFLOP/s; poolings count the bytes of their operands.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tenon_bench::aligned::Aligned;
use tenon_kernels::Isa;
use tenon_kernels::conv::pool::{self, Divisor, Pool2d};
use tenon_kernels::conv::{
    Axis, Conv2d, Direct, Direction, WeightGrad, convolve, grad_weight, pack_weight, sum_parts,
};

/// A convolution of square images: batch, channels in and out, groups, size, kernel, stride.
const CONVOLUTIONS: &[[usize; 7]] = &[
    [64, 1, 8, 1, 28, 3, 1],
    [64, 8, 16, 1, 14, 3, 1],
    [64, 16, 32, 1, 32, 3, 1],
    [64, 16, 32, 1, 14, 5, 1],
    [64, 64, 64, 1, 14, 3, 1],
    [64, 128, 128, 1, 7, 3, 1],
    [64, 64, 128, 1, 14, 1, 1],
    [64, 32, 64, 1, 28, 3, 2],
    [8, 64, 64, 64, 56, 3, 1],
    // Of ResNet and MobileNet.
    [8, 64, 64, 1, 56, 3, 1],
    [8, 128, 128, 1, 28, 3, 1],
    [8, 256, 256, 1, 14, 3, 1],
    [8, 512, 512, 1, 7, 3, 1],
    [1, 256, 256, 1, 14, 3, 1],
    [8, 64, 256, 1, 56, 1, 1],
    [8, 256, 64, 1, 56, 1, 1],
    [8, 1024, 256, 1, 14, 1, 1],
    [8, 128, 128, 1, 56, 3, 2],
    [8, 256, 512, 1, 56, 1, 2],
    [8, 3, 64, 1, 224, 7, 2],
    [8, 32, 32, 32, 112, 3, 1],
    [8, 384, 384, 384, 14, 3, 1],
];

/// A pooling of square images: planes, size, kernel, stride.
const POOLINGS: &[[usize; 4]] =
    &[[64 * 8, 28, 2, 2], [64 * 64, 14, 2, 2], [64 * 64, 28, 3, 2], [1024, 28, 3, 1]];

/// A convolution with operands for its three products.
struct Convolution {
    isa: Isa,
    shape: Conv2d,
    x: Aligned,
    w: Aligned,
    y: Aligned,
    packed: Aligned,
    parts: Aligned,
    scratch: Aligned,
}

impl Convolution {
    fn new(isa: Isa, [batch, inputs, outputs, groups, size, kernel, stride]: [usize; 7]) -> Self {
        let pad = kernel / 2;
        let axis = Axis::new(size, kernel, stride, 1, (pad, pad)).expect("the kernel fits");
        let (in_channels, out_channels) = (inputs, outputs);
        let shape = Conv2d { batch, in_channels, out_channels, groups, rows: axis, cols: axis };
        let both = [Direction::Forward, Direction::InputGrad];
        let scratch = both.map(|d| shape.scratch(d)).into_iter();
        let scratch = scratch.fold(shape.weight_scratch(), usize::max);
        let packed = both.map(|d| shape.packed_len(d)).into_iter().fold(0, usize::max);
        Self {
            isa,
            shape,
            x: noise(batch * inputs * size * size),
            w: noise(shape.weight_len()),
            y: noise(batch * outputs * axis.output * axis.output),
            packed: Aligned::zeroed(packed),
            parts: Aligned::zeroed(shape.weight_parts() * shape.weight_len()),
            scratch: Aligned::zeroed(scratch),
        }
    }

    fn convolve(&mut self, direction: Direction) {
        let Self { isa, shape, x, w, y, packed, scratch, .. } = self;
        let (src, dst) = match direction {
            Direction::Forward => (x.as_ptr(), y.as_mut_ptr()),
            Direction::InputGrad => (y.as_ptr(), x.as_mut_ptr()),
        };
        let (weight, packed) = (w.as_ptr(), packed.as_mut_ptr());
        let args = Direct { shape: *shape, direction, src, weight, packed, bias: None, dst };
        // SAFETY: all buffers have the sizes of the shape; one task at a time.
        unsafe {
            for task in 0..shape.pack_tasks(direction) {
                pack_weight(*isa, &args, task);
            }
            for task in 0..shape.tasks(direction) {
                convolve(*isa, &args, task, scratch);
            }
        }
    }

    fn grad_weight(&mut self) {
        let Self { isa, shape, x, w, y, parts, scratch, .. } = self;
        let (x, dy, several) = (x.as_ptr(), y.as_ptr(), shape.weight_parts() > 1);
        let to = if several { parts.as_mut_ptr() } else { w.as_mut_ptr() };
        let args = WeightGrad { shape: *shape, x, dy, parts: to };
        // SAFETY: as above; every part is there before they are added.
        unsafe {
            for task in 0..shape.weight_tasks() {
                grad_weight(*isa, &args, task, scratch);
            }
            if several {
                for task in 0..shape.sum_tasks() {
                    sum_parts(*isa, &args, w.as_mut_ptr(), task);
                }
            }
        }
    }
}

/// A pooling with operands.
struct Pooling {
    isa: Isa,
    shape: Pool2d,
    x: Aligned,
    y: Aligned,
    indices: Vec<i32>,
}

impl Pooling {
    fn new(isa: Isa, [planes, size, kernel, stride]: [usize; 4]) -> Self {
        let pad = (kernel - 1) / 2;
        let axis = Axis::pooled(size, kernel, stride, 1, pad, false).expect("the window fits");
        let shape = Pool2d { planes, rows: axis, cols: axis };
        let len = shape.output_len();
        Self { isa, shape, x: noise(planes * size * size), y: noise(len), indices: vec![0; len] }
    }

    /// Runs `kernel` on every task.
    fn run(&mut self, kernel: Pool) {
        let Self { isa, shape, x, y, indices } = self;
        let (isa, x, y, indices) = (*isa, x.as_mut_ptr(), y.as_mut_ptr(), indices.as_mut_ptr());
        for task in 0..shape.tasks() {
            // SAFETY: all buffers have the sizes of the shape; one task at a time.
            unsafe {
                match kernel {
                    Pool::Max => pool::max_pool(isa, shape, x, y, indices, task),
                    Pool::MaxGrad => pool::max_pool_grad(shape, y, indices, x, task),
                    Pool::Avg => pool::avg_pool(isa, shape, Divisor::Padded, x, y, task),
                    Pool::AvgGrad => pool::avg_pool_grad(isa, shape, Divisor::Padded, y, x, task),
                }
            }
        }
    }
}

/// The pooling kernels.
#[derive(Clone, Copy, Debug)]
enum Pool {
    Max,
    MaxGrad,
    Avg,
    AvgGrad,
}

/// Values in -1..1 without a pattern.
fn noise(n: usize) -> Aligned {
    Aligned::new(n, |i| (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0)
}

fn convolutions(c: &mut Criterion) {
    let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
    let mut group = c.benchmark_group(format!("conv/{}", isa.name()));
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(500)).sample_size(15);
    for sizes in CONVOLUTIONS {
        let mut conv = Convolution::new(isa, *sizes);
        let [batch, inputs, outputs, groups, size, kernel, stride] = *sizes;
        let name =
            format!("{batch}x{size}x{size} {inputs}-{outputs} g{groups} k{kernel} s{stride}");
        group.throughput(Throughput::Elements(conv.shape.flops()));
        group.bench_function(format!("{name}/y"), |b| {
            b.iter(|| conv.convolve(Direction::Forward));
        });
        group.bench_function(format!("{name}/dx"), |b| {
            b.iter(|| conv.convolve(Direction::InputGrad));
        });
        group.bench_function(format!("{name}/dw"), |b| b.iter(|| conv.grad_weight()));
    }
    group.finish();
}

fn poolings(c: &mut Criterion) {
    let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
    let mut group = c.benchmark_group(format!("pool/{}", isa.name()));
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(300)).sample_size(15);
    for sizes in POOLINGS {
        let mut pooling = Pooling::new(isa, *sizes);
        let [planes, size, kernel_size, stride] = *sizes;
        for kernel in [Pool::Max, Pool::MaxGrad, Pool::Avg, Pool::AvgGrad] {
            let tensors = if matches!(kernel, Pool::Max | Pool::MaxGrad) { 2 } else { 1 };
            let bytes = (pooling.x.len() + tensors * pooling.y.len()) * size_of::<f32>();
            group.throughput(Throughput::Bytes(bytes as u64));
            let name = format!("{planes}x{size}x{size} k{kernel_size} s{stride}/{kernel:?}");
            group.bench_function(name, |b| b.iter(|| pooling.run(kernel)));
        }
    }
    group.finish();
}

criterion_group!(benches, convolutions, poolings);
criterion_main!(benches);
