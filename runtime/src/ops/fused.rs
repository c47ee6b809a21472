//! `fused`: a chain of elementwise operations in one pass over memory.

use std::fmt::{self, Write};
use std::sync::Arc;

use tenon_kernels::binary::Binary;
use tenon_kernels::fused::{Instruction, MAX_INPUTS, MAX_REGISTERS, Operation, Source};
use tenon_kernels::unary::Unary;

use super::common::{infer_broadcast, shape_error};
use super::{Attr, AttrReader, Attrs, Case, Cost, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

const REASON: &str = "it is made after differentiation, from ops that have one";

/// A program of elementwise operations. Operands have the result's shape or a single element.
///
/// As text, instructions are separated by `;`, each an operation and what it reads: `i0` is operand
/// 0, `r0` register 0, which `r0 = ...` writes; the last instruction writes the result. Parameters
/// follow the operation after colons: `r0 = mul i0 i1; affine:0.5:1 r0`.
#[derive(Clone, Debug)]
pub struct Fused {
    /// The instructions.
    pub program: Arc<[Instruction]>,
}

impl Op for Fused {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("program", Attr::from(Text(&self.program).to_string()))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let found = inputs.len();
        if found != operands(&self.program) || found > MAX_INPUTS {
            let expected = "as many as its program reads (and at most 8)";
            return Err(Error::Arity { op: Self::NAME, expected, found });
        }
        let output = infer_broadcast(Self::NAME, inputs)?;
        let fits = |d: &&TensorDesc| d.shape() == output[0].shape() || d.numel() == 1;
        if !inputs.iter().all(fits) {
            let why = "operands must have one shape or a single element";
            return Err(shape_error(Self::NAME, inputs, why));
        }
        Ok(output)
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: REASON })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Fused(self.program.clone())
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        Cost {
            flops: outputs.iter().map(|d| (d.numel() * self.program.len()) as f64).sum(),
            bytes: inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum(),
        }
    }
}

impl OpKind for Fused {
    const NAME: &'static str = "fused";
    const GRADIENT: Gradient = Gradient::None(REASON);
    const TOLERANCE: Tolerance = Tolerance::scaled(2e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let text = attrs.str_or("program", "")?;
        let program = parse(text).map_err(|why| attrs.error("program", why))?;
        Ok(Self { program: program.into() })
    }

    fn cases() -> Vec<Case> {
        let case = |text| {
            let program = parse(text).expect("a case's program is well formed");
            Case::new(Self { program: program.into() })
        };
        let gated = "r0 = silu i0; r1 = affine:0.5:-1.0 i1; r0 = mul r0 r1; select i2 r0 i0";
        let scalars = "r0 = mul i1 i2; r1 = sigmoid i0; add r1 r0";
        vec![
            case(gated).f32(&[3, 5]).f32(&[3, 5]).f32(&[3, 5]),
            case(gated).f32(&[5001]).f32(&[1]).f32(&[5001]),
            case(scalars).f32(&[67]).f32(&[]).f32(&[1]),
            case(gated).f32(&[1 << 22]).f32(&[1 << 22]).f32(&[1 << 22]).bench_rows(),
        ]
    }
}

/// Operands that a program reads.
fn operands(program: &[Instruction]) -> usize {
    let sources = program.iter().flat_map(|i| i.operation.sources());
    let highest = sources.filter_map(|s| match s {
        Source::Input(i) => Some(i + 1),
        Source::Register(_) => None,
    });
    highest.max().unwrap_or(0)
}

/// A program's text.
struct Text<'a>(&'a [Instruction]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Instruction { operation, to }) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            if i + 1 < self.0.len() {
                write!(f, "r{to} = ")?;
            }
            match operation {
                Operation::Unary(op, _) => write_operation(f, op.name(), op.parameters())?,
                Operation::Binary(op, _) => write_operation(f, op.name(), op.parameters())?,
                Operation::Select(_) => f.write_str("select")?,
            }
            for source in operation.sources() {
                match source {
                    Source::Input(i) => write!(f, " i{i}")?,
                    Source::Register(r) => write!(f, " r{r}")?,
                }
            }
        }
        Ok(())
    }
}

fn write_operation(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    parameters: impl Iterator<Item = f32>,
) -> fmt::Result {
    f.write_str(name)?;
    for parameter in parameters {
        f.write_char(':')?;
        write!(f, "{parameter:?}")?;
    }
    Ok(())
}

/// The program that a text spells; every register must be written before it is read.
fn parse(text: &str) -> Result<Vec<Instruction>, String> {
    let lines: Vec<&str> = text.split(';').map(str::trim).collect();
    let mut written = [false; MAX_REGISTERS];
    let mut program = Vec::with_capacity(lines.len());
    for (i, line) in lines.iter().enumerate() {
        let bad = |why: String| format!("instruction `{line}`: {why}");
        let (to, work) = match line.split_once('=') {
            Some((to, work)) if i + 1 < lines.len() => (register(to.trim()).map_err(bad)?, work),
            None if i + 1 == lines.len() => (0, *line),
            _ => return Err(bad("all but the last must name a register to write".to_owned())),
        };
        let operation = operation(work).map_err(bad)?;
        for source in operation.sources() {
            match source {
                Source::Register(r) if !written[*r] => {
                    return Err(bad(format!("reads r{r}, which is not written yet")));
                }
                _ => {}
            }
        }
        written[to] = true;
        program.push(Instruction { operation, to });
    }
    Ok(program)
}

/// `name:parameter:... source ...`.
fn operation(text: &str) -> Result<Operation, String> {
    let mut words = text.split_whitespace();
    let mut head = words.next().unwrap_or_default().split(':');
    let name = head.next().unwrap_or_default();
    let parameters: Vec<f32> = head
        .map(|p| p.parse().map_err(|_| format!("`{p}` is no number")))
        .collect::<Result<_, _>>()?;
    let sources: Vec<Source> = words.map(source).collect::<Result<_, _>>()?;
    match *sources {
        [x] => Unary::from_name(name, &parameters).map(|op| Operation::Unary(op, [x])),
        [a, b] => Binary::from_name(name, &parameters).map(|op| Operation::Binary(op, [a, b])),
        [c, a, b] if name == "select" => Some(Operation::Select([c, a, b])),
        _ => None,
    }
    .ok_or_else(|| format!("no operation `{name}` of {} operands", sources.len()))
}

/// `i0` or `r0`.
fn source(text: &str) -> Result<Source, String> {
    match text.strip_prefix('i').map(str::parse) {
        Some(Ok(i)) if i < MAX_INPUTS => Ok(Source::Input(i)),
        _ => register(text).map(Source::Register),
    }
}

/// `r0`.
fn register(text: &str) -> Result<usize, String> {
    match text.strip_prefix('r').map(str::parse) {
        Some(Ok(r)) if r < MAX_REGISTERS => Ok(r),
        _ => Err(format!("`{text}` is no operand (i0 to i7) or register (r0 to r3)")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Text, parse};

    #[test]
    fn text_and_program_lead_to_each_other() {
        let text = "r0 = mul i0 i1; r1 = affine:0.5:-1e-10 r0; r0 = clamp:-inf:2.0 i0; select i2 r0 r1";
        assert_eq!(Text(&parse(text).unwrap()).to_string(), text);
    }

    #[test]
    fn misspelt_programs_are_errors() {
        for (text, why) in [
            ("", "no operation"),
            ("neg i0; neg i1", "must name a register"),
            ("r0 = neg i0", "must name a register"),
            ("neg r0", "not written yet"),
            ("r9 = neg i0; neg r9", "no operand"),
            ("neg i8", "no operand"),
            ("affine:1 i0", "no operation"),
            ("affine:1:x i0", "no number"),
            ("add i0", "no operation"),
            ("r0 = neg i0; mul r0 i99999999999999999999", "no operand"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "`{text}` gave: {error}");
        }
    }
}
