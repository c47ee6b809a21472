//! The table of shaders: the one list, from which Rust's [`Shader`] and `shaders/build` both come.
//!
//! A row is `Name = "spirv name", "source under shaders/", bindings, tier, [definitions];`. The SPIR-V
//! is checked in, so that a user needs cargo alone; `shaders/build` makes it again after a change.

use super::tier::Tier;

macro_rules! shaders {
    ($(
        $(#[$doc:meta])*
        $shader:ident = $name:literal, $source:literal, $bindings:literal, $tier:ident, [$($define:literal),*];
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
                match self { $(Self::$shader => $bindings),* }
            }

            /// What it asks of a device.
            pub(super) const fn tier(self) -> Tier {
                match self { $(Self::$shader => Tier::$tier),* }
            }
        }
    };
}

impl Shader {
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
    Elementwise = "elementwise", "elementwise/elementwise.comp", 4, Baseline, [];
    /// A chain of functions of up to seven operands.
    Chain = "chain", "elementwise/elementwise.comp", 8, Baseline, ["CHAIN"];
    /// Softmax, normalisation and their gradients.
    Row = "row", "row/row.comp", 8, Baseline, [];
    /// Rotary position embedding.
    Rope = "rope", "row/rope.comp", 4, Baseline, [];
    /// Cross-entropy over a strip of logits.
    Loss = "loss", "row/loss.comp", 7, Baseline, [];
    /// The end of a head and loss in one pass.
    LossTargets = "targets", "row/targets.comp", 6, Baseline, [];
    /// One workgroup's work: losses, counts, norms.
    Finish = "finish", "row/finish.comp", 4, Baseline, [];
    /// Matrix products.
    Gemm = "gemm", "gemm/gemm.comp", 4, Baseline, [];
    /// The sum of a product's parts.
    Parts = "parts", "gemm/parts.comp", 3, Baseline, [];
    /// Attention.
    Attention = "attention", "attention/attention.comp", 6, Baseline, ["FORWARD"];
    /// What its backward pass reads of a row.
    AttentionDelta = "attention_delta", "attention/delta.comp", 4, Baseline, [];
    /// Its gradient toward the queries.
    AttentionQueries = "attention_queries", "attention/attention.comp", 7, Baseline, ["QUERIES"];
    /// Its gradients toward keys and values.
    AttentionKeys = "attention_keys", "attention/attention.comp", 8, Baseline, ["KEYS"];
    /// Another element type.
    Cast = "cast", "elementwise/cast.comp", 2, Baseline, [];
    /// Dropout.
    Dropout = "dropout", "elementwise/dropout.comp", 3, Baseline, [];
    /// Sums and maxima along axes.
    Reduce = "reduce", "reduce/reduce.comp", 2, Baseline, [];
    /// Strided copies.
    Move = "move", "index/move.comp", 2, Baseline, [];
    /// Rows by number, decoded.
    Gather = "gather", "index/gather.comp", 3, Baseline, [];
    /// Rows added at numbers.
    Scatter = "scatter", "index/scatter.comp", 3, Baseline, [];
    /// Optimizer steps.
    Update = "update", "update/update.comp", 8, Baseline, [];
    /// Convolutions and their gradients.
    Conv = "conv", "conv/conv.comp", 4, Baseline, [];
    /// Pooling, both ways.
    Pool = "pool", "conv/pool.comp", 3, Baseline, [];
    /// Batch normalisation, both ways.
    Normalize = "normalize", "conv/normalize.comp", 8, Baseline, [];
    /// Products of bytes.
    Bytes = "bytes", "gemm/bytes.comp", 6, Baseline, [];
    /// f32 in blocks of codes.
    Quantize = "quantize", "index/quantize.comp", 2, Baseline, [];
}

#[cfg(test)]
mod tests {
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
        let tools = strings(&script, "TOOLS = ").into_iter().skip(1).step_by(2);
        let fixed: Vec<String> =
            tools.chain(strings(&script, "FLAGS")).chain(strings(&script, "PASSES")).collect();
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
            let fixed =
                fixed.iter().map(String::as_bytes).chain(words[2..].iter().map(|s| s.as_bytes()));
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
