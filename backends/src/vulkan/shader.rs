//! The table of shaders: the one list, from which Rust's [`Shader`] and `shaders/build` both come.
//!
//! A row is `Name = "spirv name", "source under shaders/", bindings, tier, [definitions];`. Bindings are
//! a letter each: `r` where the source says `readonly`, else `w`. With `, for Base` before its end a row
//! takes the place of another on devices of its tier, with the same constants, parameters and bindings.
//! The SPIR-V is checked in, so that a user needs cargo alone; `shaders/build` makes it again after a
//! change.

use super::tier::{Tier, Tiers};

macro_rules! shaders {
    ($(
        $(#[$doc:meta])*
        $shader:ident = $name:literal, $source:literal, $bindings:literal, $tier:ident, [$($define:literal),*]
        $(, for $base:ident)?;
    )*) => {
        /// A shader of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Shader {
            $($(#[$doc])* $shader,)*
        }

        impl Shader {
            /// Every shader.
            pub(super) const ALL: &[Self] = &[$(Self::$shader),*];

            /// The name of its SPIR-V.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$shader => $name),* }
            }

            /// Its SPIR-V as `shaders/build` packs it.
            const fn packed(self) -> &'static [u8] {
                match self {
                    $(Self::$shader => include_bytes!(concat!("shaders/packed/", $name, ".bin")),)*
                }
            }

            /// Storage buffers it declares, bindings 0 to this less one of set 0.
            pub(super) const fn bindings(self) -> usize {
                self.uses().len()
            }

            /// What it may do with each, whatever its constants say: `r` reads, `w` may write.
            const fn uses(self) -> &'static [u8] {
                match self { $(Self::$shader => $bindings.as_bytes()),* }
            }

            /// Whether some of its kernels write binding `i`: a validation layer sees those in all.
            pub(super) const fn may_write(self, i: usize) -> bool {
                self.uses()[i] == b'w'
            }

            /// What it asks of a device.
            pub(super) const fn tier(self) -> Tier {
                match self { $(Self::$shader => Tier::$tier),* }
            }

            /// The shader that it stands in for, or itself.
            const fn base(self) -> Self {
                match self { $(Self::$shader => [$(Self::$base,)? Self::$shader][0]),* }
            }
        }
    };
}

impl Shader {
    /// What stands in for it on a device of these tiers: the same, or what asks for most.
    pub(super) fn on(self, tiers: Tiers) -> Self {
        let variants = Self::ALL.iter().filter(|v| v.base() == self && tiers.has(v.tier()));
        variants.copied().max_by_key(|v| v.tier()).unwrap_or(self)
    }

    /// Its SPIR-V; the packing is described in `shaders/build`.
    pub(super) fn spirv(self) -> Vec<u32> {
        let mut bytes = self.packed().iter();
        let mut next = || {
            let (mut value, mut shift) = (0, 0);
            for &byte in bytes.by_ref() {
                value |= u32::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    return Some(value);
                }
            }
            None
        };
        let mut words: Vec<u32> = (0..5).map_while(|_| next()).collect();
        while let (Some(opcode), Some(length)) = (next(), next()) {
            words.push(opcode | length << 16);
            words.extend((1..length).map_while(|_| next()));
        }
        words
    }
}

shaders! {
    /// A function of up to three operands, with any broadcasting.
    Elementwise = "elementwise", "elementwise/elementwise.comp", "rrrw", Baseline, [];
    /// A chain of functions of up to seven operands.
    Chain = "chain", "elementwise/elementwise.comp", "rrrrrrrw", Baseline, ["CHAIN"];
    /// Softmax, normalisation and their gradients.
    Row = "row", "row/row.comp", "rrrrrwww", Baseline, [];
    /// Rotary position embedding.
    Rope = "rope", "row/rope.comp", "rrrw", Baseline, [];
    /// Cross-entropy over a strip of logits.
    Loss = "loss", "row/loss.comp", "wrwrrrw", Baseline, [];
    /// The end of a head and loss in one pass.
    LossTargets = "targets", "row/targets.comp", "rrrrrw", Baseline, [];
    /// One workgroup's work: losses, counts, norms.
    Finish = "finish", "row/finish.comp", "rrrww", Baseline, [];
    /// Matrix products.
    Gemm = "gemm", "gemm/gemm.comp", "rrrw", Baseline, [];
    /// Matrix products of int8 codes in blocks of 32.
    Codes = "codes", "gemm/codes.comp", "rrrw", Baseline, [];
    /// Matrix products of a few rows.
    Narrow = "narrow", "gemm/narrow.comp", "rrrw", Baseline, [];
    /// The sum of a product's parts.
    Parts = "parts", "gemm/parts.comp", "rrw", Baseline, [];
    /// Attention.
    Attention = "attention", "attention/attention.comp", "rrrrww", Baseline, ["FORWARD"];
    /// What its backward pass reads of a row.
    AttentionDelta = "attention_delta", "attention/delta.comp", "rrrw", Baseline, [];
    /// Its gradient toward the queries.
    AttentionQueries = "attention_queries", "attention/attention.comp", "rrrrrrw", Baseline, ["QUERIES"];
    /// Its gradients toward keys and values.
    AttentionKeys = "attention_keys", "attention/attention.comp", "rrrrrrww", Baseline, ["KEYS"];
    /// Another element type.
    Cast = "cast", "elementwise/cast.comp", "rw", Baseline, [];
    /// Dropout.
    Dropout = "dropout", "elementwise/dropout.comp", "rrw", Baseline, [];
    /// Normal numbers.
    Noise = "noise", "elementwise/noise.comp", "rrw", Baseline, [];
    /// Sums and maxima along axes.
    Reduce = "reduce", "reduce/reduce.comp", "rw", Baseline, [];
    /// Strided copies.
    Move = "move", "index/move.comp", "rw", Baseline, [];
    /// Rows by number, decoded.
    Gather = "gather", "index/gather.comp", "rrw", Baseline, [];
    /// Rows added at numbers.
    Scatter = "scatter", "index/scatter.comp", "rrw", Baseline, [];
    /// Indices out of range.
    Check = "check", "index/check.comp", "rw", Baseline, [];
    /// Optimizer steps with states of f32 or bf16.
    Update = "update", "update/update.comp", "wrwwrrr", Baseline, [];
    /// Optimizer steps with states of int8 in blocks.
    UpdateBlocks = "update_blocks", "update/update.comp", "wrwwwwr", Baseline, ["BLOCKS"];
    /// Convolutions and their gradients.
    Conv = "conv", "conv/conv.comp", "rrrw", Baseline, [];
    /// Pooling, both ways.
    Pool = "pool", "conv/pool.comp", "rww", Baseline, [];
    /// Batch normalisation, both ways.
    Normalize = "normalize", "conv/normalize.comp", "rwwrrwww", Baseline, [];
    /// Products of bytes.
    Bytes = "bytes", "gemm/bytes.comp", "rrrrrw", Baseline, [];
    /// f32 in blocks of codes.
    Quantize = "quantize", "index/quantize.comp", "rw", Baseline, [];

    /// `Bytes` by dot products of four bytes: sums are exact.
    BytesDot = "bytes_dot", "gemm/bytes.comp", "rrrrrw", Dot, ["DOT"], for Bytes;
    /// `Codes` by dot products of four bytes.
    CodesDot = "codes_dot", "gemm/codes.comp", "rrrw", Dot, ["DOT"], for Codes;
    /// `Gemm` for a B of f16 that nothing rounds further.
    GemmHalf = "gemm_half", "gemm/gemm.comp", "rrrw", F16, ["HALF"];
    // Blocks of codes are read by words all the same: by two bytes at a time products took lavapipe
    // 1.05 times as long on two threads of Zen 5, and rows by number as long.
    /// `Move` of single bytes and of two; the bits are the same, here and below.
    MoveInt8 = "move_int8", "index/move.comp", "rw", Int8, ["STORAGE"], for Move;
    /// `Quantize` that stores bytes.
    QuantizeInt8 = "quantize_int8", "index/quantize.comp", "rw", Int8, ["STORAGE"], for Quantize;
    /// `Row` through subgroups.
    RowSubgroups = "row_subgroups", "row/row.comp", "rrrrrwww", Subgroups, ["SUBGROUPS"], for Row;
    /// `Loss` through subgroups.
    LossSubgroups = "loss_subgroups", "row/loss.comp", "wrwrrrw", Subgroups, ["SUBGROUPS"], for Loss;
    /// `Finish` through subgroups.
    FinishSubgroups = "finish_subgroups", "row/finish.comp", "rrrww", Subgroups, ["SUBGROUPS"], for Finish;
    /// `Reduce` through subgroups.
    ReduceSubgroups = "reduce_subgroups", "reduce/reduce.comp", "rw", Subgroups, ["SUBGROUPS"], for Reduce;
    /// `Normalize` through subgroups.
    NormalizeSubgroups = "normalize_subgroups", "conv/normalize.comp", "rwwrrwww", Subgroups, ["SUBGROUPS"], for Normalize;
    /// `Attention` through subgroups.
    AttentionSubgroups = "attention_subgroups", "attention/attention.comp", "rrrrww", Subgroups, ["FORWARD", "SUBGROUPS"], for Attention;
    /// `UpdateBlocks` through subgroups.
    UpdateBlocksSubgroups = "update_blocks_subgroups", "update/update.comp", "wrwwwwr", Subgroups, ["BLOCKS", "SUBGROUPS"], for UpdateBlocks;
    /// `AttentionDelta` through subgroups.
    AttentionDeltaSubgroups = "attention_delta_subgroups", "attention/delta.comp", "rrrw", Subgroups, ["SUBGROUPS"], for AttentionDelta;
    /// `Gemm` by matrices of f16 that hold what f32 does in pieces.
    GemmMatrix = "gemm_matrix", "gemm/matrix.comp", "rrrw", Matrix, [];
    /// `Bytes` by matrices of bytes.
    BytesMatrix = "bytes_matrix", "gemm/matrix_bytes.comp", "rrrrrw", Matrix, [];
}

#[cfg(test)]
mod tests {
    use super::super::tier::{ALL, Tier};
    use super::Shader;

    const MANIFEST: &str = include_str!("shaders/manifest.json");

    /// FNV-1a of 64 bits, as `shaders/build` has it.
    fn fnv(parts: &[&[u8]]) -> String {
        let each = parts.iter().flat_map(|part| part.iter().copied().chain([0]));
        let hash = each.fold(0xcbf2_9ce4_8422_2325u64, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        format!("{hash:016x}")
    }

    /// A list of strings that a Python file names so.
    fn strings(script: &str, name: &str) -> Vec<String> {
        let lines = script.lines().filter(|line| line.starts_with(name));
        lines.flat_map(|l| l.split('"').skip(1).step_by(2).map(str::to_owned)).collect()
    }

    /// Needs no compiler: the manifest says what each shader was made from.
    #[test]
    fn no_shader_is_stale() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vulkan/shaders");
        let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
        let script = String::from_utf8(read("build")).unwrap();
        let fixed: Vec<String> = [strings(&script, "FLAGS"), strings(&script, "PASSES")].concat();
        let table = include_str!("shader.rs");
        for &shader in Shader::ALL {
            let name = shader.name();
            let row = table.lines().find(|line| line.contains(&format!(" = \"{name}\", ")));
            let words: Vec<&str> = row.unwrap().split('"').skip(1).step_by(2).collect();
            let mut paths = vec![words[1].to_owned()];
            let mut i = 0;
            while i < paths.len() {
                let text = String::from_utf8(read(&paths[i])).unwrap();
                for line in text.lines().filter_map(|line| line.strip_prefix("#include \"")) {
                    let path = format!("include/{}", line.trim_end_matches('"'));
                    if !paths.contains(&path) {
                        paths.push(path);
                    }
                }
                i += 1;
            }
            let sources: Vec<Vec<u8>> = paths.iter().map(|path| read(path)).collect();
            let tools = if shader.tier() == Tier::Matrix { "MATRIX_TOOLS = " } else { "TOOLS = " };
            let tools = strings(&script, tools);
            let tools = tools.iter().skip(1).step_by(2).map(String::as_bytes);
            let fixed = tools.chain(fixed.iter().map(String::as_bytes));
            let fixed = fixed.chain(words[3..].iter().map(|s| s.as_bytes()));
            let parts: Vec<&[u8]> = fixed.chain(sources.iter().map(Vec::as_slice)).collect();
            let line =
                format!("\"{name}\": [\"{}\", \"{}\"]", fnv(&parts), fnv(&[shader.packed()]));
            assert!(
                MANIFEST.contains(&line),
                "{name} is stale: run backends/src/vulkan/shaders/build"
            );
        }
    }

    /// Where the pinned compiler is, it makes the same bytes, and they are valid.
    #[test]
    fn the_pinned_compiler_makes_the_same() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/vulkan/shaders/build");
        let Ok(run) = std::process::Command::new("python3").args([script, "--check"]).output()
        else {
            return;
        };
        // 3: not here.
        assert!(
            matches!(run.status.code(), Some(0 | 3)),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
    }

    /// The README's table of tiers is this one.
    #[test]
    fn the_readme_lists_the_shaders_of_each_tier() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        for (tier, name, variable) in ALL {
            let shaders: Vec<_> = tier.shaders().map(|shader| format!("`{shader}`")).collect();
            let shaders =
                if shaders.is_empty() { "none yet".to_owned() } else { shaders.join(" ") };
            let row = format!("| `{name}` | `{variable}` | {shaders} |");
            assert!(readme.contains(&row), "the README lacks\n{row}");
        }
    }

    #[test]
    fn packed_shaders_are_spirv() {
        for &shader in Shader::ALL {
            let words = shader.spirv();
            assert_eq!(words[0], 0x0723_0203, "{}", shader.name());
            // SPIR-V 1.3, what Vulkan 1.1 takes.
            assert!(words[1] <= 0x0001_0300 && shader.bindings() <= 8);
        }
    }
}
