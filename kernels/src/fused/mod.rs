//! A chain of elementwise operations in one pass over memory.
//!
//! A program's instructions run one after the other on a chunk that stays in the first-level
//! cache, then on the next chunk: what they pass on never reaches memory. The reference is its
//! operations one by one over whole vectors, and the tolerance is zero: the bits are the same.

use crate::binary::{self, Binary};
use crate::broadcast::Broadcast;
use crate::isa::Isa;
use crate::unary::{self, Unary};

/// Elements of a chunk: 4 KiB, so that a program's registers and the chunks of its operands share a
/// first-level cache of 32 KiB.
///
/// Four operations on 2^22 elements (Zen 5, AVX-512, one thread) took 1.5, 1.6, 2.0 and 2.4 ms with
/// chunks of 512, 1024, 2048 and 4096, and 2.5 ms one by one; on 2^14 elements, which stay in the
/// second-level cache, calls tell instead, and 512 costs a third more than 1024.
pub const CHUNK: usize = 1024;
/// Operands that a program may have.
pub const MAX_INPUTS: usize = 8;
/// Registers that a program may use.
pub const MAX_REGISTERS: usize = 4;

/// What an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operand of this number.
    Input(usize),
    /// The register of this number, below [`MAX_REGISTERS`].
    Register(usize),
}

/// What an instruction computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// A function of one argument.
    Unary(Unary, [Source; 1]),
    /// A function of two arguments.
    Binary(Binary, [Source; 2]),
    /// The second where the first is not zero, else the third.
    Select([Source; 3]),
}

impl Operation {
    /// What it reads.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        match self {
            Self::Unary(_, sources) => sources,
            Self::Binary(_, sources) => sources,
            Self::Select(sources) => sources,
        }
    }
}

/// An operation and the register that takes its result; the last instruction's register is not
/// used: its result is the program's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instruction {
    /// What is computed.
    pub operation: Operation,
    /// Where it goes; may be a register that the operation reads.
    pub to: usize,
}

/// An operand of a program.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Its elements.
    pub start: *const f32,
    /// Whether it has an element for each of the result, or a single one for all.
    pub steps: bool,
}

/// Registers that a program uses: its scratch is so many times [`CHUNK`] f32.
#[must_use]
pub fn registers(program: &[Instruction]) -> usize {
    let before = program.len().saturating_sub(1);
    program[..before].iter().map(|i| i.to + 1).max().unwrap_or(0)
}

/// Runs `program` for `n` elements: `y[i]` from element `i` of each input that steps and the only
/// element of each that does not. Bit for bit what its operations give one by one.
///
/// # Panics
/// Where an instruction names an input that is not there, or a register beyond `scratch`, which holds
/// [`CHUNK`] f32 for each.
///
/// # Safety
/// `y` must be valid for writing `n` f32, and each input for reading as many as it has. `y` must be
/// disjoint from each input, or equal to it where it steps.
pub unsafe fn run(
    isa: Isa,
    program: &[Instruction],
    inputs: &[Input],
    scratch: &mut [f32],
    y: *mut f32,
    n: usize,
) {
    let Some((last, before)) = program.split_last() else { return };
    let mut registers = [std::ptr::null_mut(); MAX_REGISTERS];
    for (register, memory) in registers.iter_mut().zip(scratch.chunks_exact_mut(CHUNK)) {
        *register = memory.as_mut_ptr();
    }
    let count = (scratch.len() / CHUNK).min(MAX_REGISTERS);
    let registers = &registers[..count];
    for start in (0..n).step_by(CHUNK) {
        let chunk = Chunk { isa, inputs, registers, start, len: CHUNK.min(n - start) };
        for instruction in before {
            // SAFETY: registers hold a chunk; inputs as the caller says.
            unsafe { chunk.execute(&instruction.operation, registers[instruction.to]) };
        }
        // SAFETY: as above; `start` lies below `n`.
        unsafe { chunk.execute(&last.operation, y.add(start)) };
    }
}

/// Some consecutive elements of a run.
struct Chunk<'a> {
    isa: Isa,
    inputs: &'a [Input],
    registers: &'a [*mut f32],
    start: usize,
    len: usize,
}

impl Chunk<'_> {
    /// Where a source's elements for this chunk begin, and whether it steps.
    fn locate(&self, source: Source) -> (*const f32, bool) {
        match source {
            Source::Register(r) => (self.registers[r].cast_const(), true),
            Source::Input(i) => {
                let Input { start, steps } = self.inputs[i];
                (if steps { start.wrapping_add(self.start) } else { start }, steps)
            }
        }
    }

    /// One operation.
    ///
    /// # Safety
    /// As [`run`], with `to` valid for writing the chunk.
    unsafe fn execute(&self, operation: &Operation, to: *mut f32) {
        // SAFETY (all below): sources hold the chunk, or one element where they do not step; `to`
        // is a register or the result, equal to a source or apart from it.
        match *operation {
            Operation::Unary(op, [x]) => match self.locate(x) {
                // SAFETY: see above.
                (x, true) => unsafe { unary::apply(self.isa, op, x, to, self.len) },
                // SAFETY: see above; the one result is then repeated.
                (x, false) => unsafe {
                    unary::apply(self.isa, op, x, to, 1);
                    let value = *to;
                    std::slice::from_raw_parts_mut(to, self.len).fill(value);
                },
            },
            Operation::Binary(op, sources) => {
                let [(a, a_steps), (b, b_steps)] = sources.map(|s| self.locate(s));
                let plan = Broadcast::row([a_steps, b_steps], self.len);
                // SAFETY: see above.
                unsafe { binary::apply(self.isa, op, &plan, 0..self.len, (a, b), to) };
            }
            Operation::Select(sources) => {
                let [(c, c_steps), (a, a_steps), (b, b_steps)] = sources.map(|s| self.locate(s));
                let plan = Broadcast::row([c_steps, a_steps, b_steps], self.len);
                // SAFETY: see above.
                unsafe { binary::select(self.isa, &plan, 0..self.len, (c, a, b), to) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Source::{Input as In, Register as Reg};

    /// `(c ? exp(a * s) : s) - a` with the scalar `s`.
    const PROGRAM: &[Instruction] = &[
        Instruction { operation: Operation::Binary(Binary::Mul, [In(0), In(2)]), to: 1 },
        Instruction { operation: Operation::Unary(Unary::Exp, [Reg(1)]), to: 0 },
        Instruction { operation: Operation::Select([In(1), Reg(0), In(2)]), to: 0 },
        Instruction { operation: Operation::Binary(Binary::Sub, [Reg(0), In(0)]), to: 0 },
    ];

    /// Runs single operations over whole vectors.
    fn one_by_one(isa: Isa, a: &[f32], c: &[f32], s: f32) -> Vec<f32> {
        let n = a.len();
        let mut y = vec![0.0; n];
        let p = y.as_mut_ptr();
        let pair = Broadcast::row([true, false], n);
        // SAFETY: vectors of `n` elements and single numbers.
        unsafe {
            binary::apply(isa, Binary::Mul, &pair, 0..n, (a.as_ptr(), &raw const s), p);
            unary::apply(isa, Unary::Exp, p, p, n);
            let three = Broadcast::row([true, true, false], n);
            binary::select(isa, &three, 0..n, (c.as_ptr(), p, &raw const s), p);
            let pair = Broadcast::row([true, true], n);
            binary::apply(isa, Binary::Sub, &pair, 0..n, (p, a.as_ptr()), p);
        }
        y
    }

    #[test]
    fn a_program_gives_the_bits_of_its_operations() {
        let s = 0.3f32;
        for isa in Isa::available() {
            for n in [0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
                let mut a: Vec<f32> = (0..n).map(|i| (i % 97) as f32 * 0.1 - 4.0).collect();
                let c: Vec<f32> = (0..n).map(|i| (i % 3) as f32).collect();
                let want = one_by_one(isa, &a, &c, s);
                let p = a.as_mut_ptr();
                let inputs = [
                    Input { start: p, steps: true },
                    Input { start: c.as_ptr(), steps: true },
                    Input { start: &raw const s, steps: false },
                ];
                let mut scratch = vec![f32::NAN; registers(PROGRAM) * CHUNK];
                // SAFETY: vectors of `n` elements; the result replaces the first.
                unsafe { run(isa, PROGRAM, &inputs, &mut scratch, p, n) };
                assert_eq!(a, want);
            }
        }
    }

    #[test]
    fn a_function_of_a_single_number_is_repeated() {
        let (s, mut y) = (4.0f32, vec![0.0; CHUNK + 3]);
        let program = [Instruction { operation: Operation::Unary(Unary::Sqrt, [In(0)]), to: 0 }];
        let inputs = [Input { start: &raw const s, steps: false }];
        for isa in Isa::available() {
            // SAFETY: a single number and a vector of that length.
            unsafe { run(isa, &program, &inputs, &mut [], y.as_mut_ptr(), y.len()) };
            assert!(y.iter().all(|&y| y == 2.0));
        }
    }
}
