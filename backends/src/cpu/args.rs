//! A step's operands as slices.

use std::ops::Range;

use tenon_runtime::backend::{Memory, Step};
use tenon_runtime::tensor::Element;
use tenon_runtime::{Error, TensorDesc};

/// The operands of one launch.
///
/// Made only inside a launch, whose contract vouches that every operand lies inside its memory
/// and that no one else touches it; the accessors rest on that.
#[derive(Clone, Copy)]
pub(super) struct Args<'a> {
    step: &'a Step,
    memory: &'a Memory,
}

impl<'a> Args<'a> {
    /// # Safety
    /// As [`tenon_runtime::backend::Program::launch`].
    pub(super) unsafe fn new(step: &'a Step, memory: &'a Memory) -> Self {
        Self { step, memory }
    }

    /// The op's name, for messages.
    pub(super) fn op(&self) -> &'static str {
        self.step.op.name()
    }

    /// Number of inputs.
    pub(super) fn inputs(&self) -> usize {
        self.step.inputs.len()
    }

    /// Number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.step.outputs.len()
    }

    /// Input `i`'s description.
    pub(super) fn input_desc(&self, i: usize) -> &'a TensorDesc {
        &self.step.inputs[i].desc
    }

    /// Output `i`'s description.
    pub(super) fn output_desc(&self, i: usize) -> &'a TensorDesc {
        &self.step.outputs[i].desc
    }

    /// Input `i`'s address; an output may be the same memory where the launch allows that.
    pub(super) fn input_ptr(&self, i: usize) -> *const u8 {
        self.memory.address(&self.step.inputs[i])
    }

    /// Output `i`'s address.
    pub(super) fn output_ptr(&self, i: usize) -> *mut u8 {
        self.memory.address(&self.step.outputs[i])
    }

    /// Input `i`'s address for a launch that overwrites it (an update).
    pub(super) fn mutable_ptr(&self, i: usize) -> *mut u8 {
        self.memory.address(&self.step.inputs[i])
    }

    /// Input `i`'s address for tasks, where the launch may run in place on it.
    pub(super) fn input_address<T: Element>(&self, i: usize) -> Address<T> {
        assert_eq!(self.input_desc(i).dtype(), T::DTYPE);
        Address(self.memory.address(&self.step.inputs[i]).cast())
    }

    /// Input `i`'s address for tasks that see elements of another type: encoded ones, or of any
    /// type of the size of `T`.
    pub(super) fn raw_input<T>(&self, i: usize) -> Address<T> {
        Address(self.memory.address(&self.step.inputs[i]).cast())
    }

    /// Output `i`'s address, as [`Args::raw_input`].
    pub(super) fn raw_output<T>(&self, i: usize) -> Address<T> {
        Address(self.output_ptr(i).cast())
    }

    /// Output `i`'s address for tasks, where the launch may run in place.
    pub(super) fn output_address<T: Element>(&self, i: usize) -> Address<T> {
        assert_eq!(self.output_desc(i).dtype(), T::DTYPE);
        Address(self.output_ptr(i).cast())
    }

    /// An [`Error::Unsupported`] for operands that the kernels cannot take, and why.
    pub(super) fn unsupported(&self, why: &dyn std::fmt::Display) -> Error {
        let operands: Vec<_> = self.step.inputs.iter().map(|o| o.desc.to_string()).collect();
        Error::Unsupported { op: self.op(), operands: format!("{} ({why})", operands.join(", ")) }
    }

    /// Input `i` as a slice; only for launches that never run in place on it.
    pub(super) fn input<T: Element>(&self, i: usize) -> &'a [T] {
        let desc = self.input_desc(i);
        assert_eq!(desc.dtype(), T::DTYPE);
        // SAFETY: see the type; memories are aligned to `ALIGN`, offsets too.
        unsafe { std::slice::from_raw_parts(self.input_ptr(i).cast(), desc.numel()) }
    }

    /// Input `i`'s bytes, whatever its type.
    pub(super) fn input_bytes(&self, i: usize) -> &'a [u8] {
        // SAFETY: see the type.
        unsafe { std::slice::from_raw_parts(self.input_ptr(i), self.input_desc(i).bytes()) }
    }

    /// Lets go of a range of input `i`'s bytes, read for the last time, where that is asked for.
    pub(super) fn release(&self, i: usize, range: Range<usize>) {
        if let Some(storage) = &self.step.inputs[i].release {
            storage.release(range);
        }
    }

    /// Whether any input's bytes are to be let go of.
    pub(super) fn releases(&self) -> bool {
        self.step.inputs.iter().any(|input| input.release.is_some())
    }

    /// Output `i`, to be cut into pieces for tasks.
    pub(super) fn output<T: Element>(&self, i: usize) -> Pieces<T> {
        assert_eq!(self.output_desc(i).dtype(), T::DTYPE);
        Pieces { start: self.output_ptr(i).cast(), len: self.output_desc(i).numel() }
    }

    /// Input `i`, overwritten by an update, to be cut into pieces for tasks.
    pub(super) fn mutable<T: Element>(&self, i: usize) -> Pieces<T> {
        assert_eq!(self.input_desc(i).dtype(), T::DTYPE);
        Pieces { start: self.mutable_ptr(i).cast(), len: self.input_desc(i).numel() }
    }

    /// The scratch that `workspace` asked for.
    pub(super) fn scratch<T: Copy>(&self) -> Pieces<T> {
        let (offset, bytes) = self.step.workspace;
        Pieces { start: self.memory.at(0, offset).cast(), len: bytes / size_of::<T>() }
    }
}

/// A writable span that tasks take disjoint pieces of.
#[derive(Clone, Copy)]
pub(super) struct Pieces<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: pieces are disjoint by the contract of `piece`; `T` is plain data.
unsafe impl<T: Send> Send for Pieces<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Pieces<T> {}

impl<T: Copy> Pieces<T> {
    /// All of a slice.
    pub(super) fn new(slice: &mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// Length of the whole.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first element's address.
    pub(super) fn start(&self) -> *mut T {
        self.start
    }

    /// The rest from element `at` on.
    pub(super) fn offset(self, at: usize) -> Self {
        self.part(at..self.len)
    }

    /// A sub-span.
    pub(super) fn part(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len);
        Self { start: self.start.wrapping_add(range.start), len: range.len() }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No two pieces that live at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn piece<'a>(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in range; disjoint by the caller's word.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// All elements.
    ///
    /// # Safety
    /// As [`Pieces::piece`].
    pub(super) unsafe fn all<'a>(&self) -> &'a mut [T] {
        // SAFETY: the caller's word.
        unsafe { self.piece(0..self.len) }
    }
}

/// An address that tasks share, for kernels that take raw operands because they may run in place.
#[derive(Clone, Copy)]
pub(super) struct Address<T>(*mut T);

// SAFETY: an address alone does nothing; who goes through it answers for it. `T` is plain data.
unsafe impl<T: Send> Send for Address<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Address<T> {}

impl<T> Address<T> {
    /// The address of element `i`.
    pub(super) fn at(&self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }
}

/// Elements in a task of an elementwise launch: 64 KiB of f32, some 2 us of memory traffic, so that
/// claiming the task costs little beside it and small tensors stay on the caller's thread.
pub(super) const GRAIN: usize = 1 << 14;

/// Cuts `len` elements into tasks of about `grain`: a split that depends on the size alone.
pub(super) fn split(len: usize, grain: usize) -> impl Fn(usize) -> Range<usize> {
    move |task| (task * grain).min(len)..((task + 1) * grain).min(len)
}
