"""Finds the inner loops of the Arm register tiles in a program and compares them with the tables in
`kernels/src/arch/arm_*/mod.rs`: as many multiply-adds, no more loads or instructions, and nothing
on the stack. Loops of which they are less than a quarter, such as one of exponentials, have as many by
chance. `tests/run arm` runs it on the program of the kernels' tests. By eye:

    aarch64-linux-gnu-objdump -dC --no-show-raw-insn PROGRAM | less +/'run::NeonMmla'
"""
import pathlib, re, subprocess, sys

# A row of a table: the tile, the count and name of its multiply-adds, loads, instructions.
ROW = re.compile(r"//! \| (.+?) \| (\d+) `(\w+)`.*? \| (\d+) \| (\d+) \|")
ARCH = pathlib.Path(__file__).parent.parent / "kernels/src/arch"


def functions(program):
    """The name of each function and its instructions: address, mnemonic, operands."""
    command = ["aarch64-linux-gnu-objdump", "-dC", "--no-show-raw-insn", program]
    name, body = "", []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lines:
        for line in lines.stdout:
            if begins := re.match(r"[0-9a-f]+ <(.*)>:$", line):
                yield name, body
                name, body = begins[1], []
            elif one := re.match(r"\s+([0-9a-f]+):\s+(\S+)\s*([^/]*)", line):
                body.append((int(one[1], 16), one[2], one[3].strip()))
    yield name, body


def inner_loops(body):
    """The stretches between a branch backwards and its target that hold no other such branch."""
    at = {address: i for i, (address, _, _) in enumerate(body)}
    last = -1
    for i, (address, mnemonic, operands) in enumerate(body):
        to = re.search(r"\b([0-9a-f]+) <", operands)
        if to and mnemonic[0] in "bct" and mnemonic != "bl":
            target = int(to[1], 16)
            if target in at and target <= address:
                if at[target] > last:
                    yield body[at[target] : i + 1]
                last = i


def main(program):
    found = {}
    for name, body in functions(program):
        if level := re.search(r"isa::Isa>?::run::(\w+)", name):
            found.setdefault(level[1], []).extend(inner_loops(body))
    good = True
    for source in sorted(ARCH.glob("arm_*/mod.rs")):
        text = source.read_text()
        level = re.search(r"pub struct (\w+)", text)[1]
        for tile, count, multiply, loads, length in ROW.findall(text):
            fits = []
            for loop in found.get(level, []):
                mnemonics = [mnemonic for _, mnemonic, _ in loop]
                if mnemonics.count(multiply) == int(count) and len(loop) <= 4 * int(count):
                    stack = sum(bool(re.search(r"\[(sp|x29)\b", operands)) for _, _, operands in loop)
                    fits.append((len(loop), sum(m.startswith("ld") for m in mnemonics), stack))
            print(f"{level}, {tile}: {count} {multiply};",
                  *(f"{i} instructions, {l} loads, {s} on the stack;" for i, l, s in sorted(set(fits))))
            here = any(i <= int(length) and l <= int(loads) for i, l, _ in fits)
            if not here or any(s for _, _, s in fits):
                print(f"  the table says {length} instructions, {loads} loads, none on the stack")
                good = False
    sys.exit(not good)


main(sys.argv[1])
