//! One spatial axis of a convolution.

/// Sizes along one axis.
///
/// Tap `k` of output `o` reads input `o * stride + k * dilation - pad`; inputs outside are zero.
/// Padding after the end shows only in `output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Positions of the input.
    pub input: usize,
    /// Positions of the output.
    pub output: usize,
    /// Taps of the kernel, at least 1.
    pub kernel: usize,
    /// Input positions from one output to the next, at least 1.
    pub stride: usize,
    /// Input positions from one tap to the next, at least 1.
    pub dilation: usize,
    /// Zeros before the first input.
    pub pad: usize,
}

/// Taps `first, first + step, ...` that read one phase of the source: tap number `t` of them reads
/// position `u + shift + t * shift_step` for result `u`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taps {
    pub(super) first: usize,
    pub(super) step: usize,
    pub(super) count: usize,
    pub(super) shift: isize,
    pub(super) shift_step: isize,
}

impl Axis {
    /// An axis whose output follows from its input and padding before and after it.
    ///
    /// `None` where the dilated kernel does not fit into the padded input, a size is zero, or the
    /// sizes overflow.
    #[must_use]
    pub fn new(
        input: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        (pad, pad_after): (usize, usize),
    ) -> Option<Self> {
        let padded = input.checked_add(pad)?.checked_add(pad_after)?;
        let extent = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        let output = padded.checked_sub(extent)?.checked_div(stride)? + 1;
        (dilation > 0).then_some(Self { input, output, kernel, stride, dilation, pad })
    }

    /// The taps that read inputs congruent to `phase` modulo the stride, for the forward pass.
    ///
    /// Input `v * stride + phase` is position `v` of its phase.
    pub(super) fn taps(&self, phase: usize) -> Option<Taps> {
        let (stride, pad) = (self.stride as isize, self.pad as isize);
        let read = |k: usize| (k * self.dilation) as isize - pad - phase as isize;
        let step = self.stride / gcd(self.stride, self.dilation);
        let first = (0..self.kernel.min(step)).find(|&k| read(k) % stride == 0)?;
        Some(Taps {
            first,
            step,
            count: (self.kernel - first).div_ceil(step),
            shift: read(first) / stride,
            shift_step: (step * self.dilation / self.stride) as isize,
        })
    }
}

impl Taps {
    /// The same taps seen from the input: which outputs meet input `u` of this phase.
    pub(super) fn reversed(self) -> Self {
        Self { shift: -self.shift, shift_step: -self.shift_step, ..self }
    }

    /// Least shift.
    pub(super) fn low(&self) -> isize {
        self.shift.min(self.shift + (self.count as isize - 1) * self.shift_step)
    }

    /// Greatest shift less the least.
    pub(super) fn span(&self) -> usize {
        (self.count - 1) * self.shift_step.unsigned_abs()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
