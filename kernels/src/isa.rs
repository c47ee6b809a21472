//! The instruction-set levels, their detection, and the one dispatch point.

use crate::simd::Simd;

/// A computation written once over a [`Simd`] token.
///
/// `run` and everything it calls on the hot path must be `#[inline(always)]`: the body is
/// compiled inside the `#[target_feature]` entry of each level, and only inlined code gets that
/// level's instructions.
pub trait Kernel {
    /// What the computation returns.
    type Out;
    /// Whether the body multiplies bfloat16. Only then is it compiled for levels that have nothing
    /// else of their own.
    const BF16: bool = false;
    /// Whether the body multiplies bytes, or asks for the size of their register tile.
    const BYTES: bool = false;
    /// Whether the body packs or multiplies panels for [`Simd::multiply_panels`], or asks for the
    /// size of their tiles.
    const PANELS: bool = false;
    /// The body.
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

macro_rules! isas {
    ($(
        $(#[$doc:meta])*
        $variant:ident [$plain:ident, $bf16:ident, $bytes:ident $(, $panels:ident)?] =
            $name:literal, $arch:tt, $detect:ident $(and $also:path)?, $token:path, [$($feature:tt),*];
    )*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        enum Level {
            /// The baseline of the target: no feature beyond what the compiler assumes.
            Portable,
            $(#[cfg(all(target_arch = $arch, not(tenon_portable)))] $(#[$doc])* $variant,)*
        }

        /// Every level this build knows, oldest first, with its detection.
        const LEVELS: &[(Level, &str, fn() -> bool)] = &[
            (Level::Portable, "portable", || true),
            $(#[cfg(all(target_arch = $arch, not(tenon_portable)))]
              (Level::$variant, $name, || true $(&& std::arch::$detect!($feature))* $(&& $also())?),)*
        ];

        impl Isa {
            /// Runs `kernel` compiled for this level.
            #[inline]
            pub fn run<K: Kernel>(self, kernel: K) -> K::Out {
                $(
                    #[cfg(all(target_arch = $arch, not(tenon_portable)))]
                    #[inline]
                    #[allow(non_snake_case, reason = "one function a level, named after it")]
                    $(#[target_feature(enable = $feature)])*
                    fn $variant<K: Kernel>(kernel: K) -> K::Out {
                        // SAFETY: this function's own target features are the token's.
                        kernel.run(unsafe { <$token>::new_unchecked() })
                    }
                )*
                match self.0 {
                    Level::Portable => kernel.run(crate::arch::portable::Portable),
                    $(
                        #[cfg(all(target_arch = $arch, not(tenon_portable)))]
                        // SAFETY: an `Isa` of this level exists only where detection found it.
                        Level::$variant => unsafe {
                            $(if K::PANELS { return $panels(kernel); })?
                            if K::BF16 {
                                if K::BYTES { $variant(kernel) } else { $bf16(kernel) }
                            } else if K::BYTES {
                                $bytes(kernel)
                            } else {
                                $plain(kernel)
                            }
                        },
                    )*
                }
            }
        }
    };
}

// In brackets, the levels whose code runs kernels without dot products, with those of bfloat16 and
// with those of bytes, and, where the level multiplies whole panels, those that do: what a level has
// no instruction for is not compiled again for it.
isas! {
    /// AVX2 with FMA and F16C (2013 on).
    Avx2 [Avx2, Avx2, Avx2] = "avx2", "x86_64", is_x86_feature_detected,
        crate::arch::x86_avx2::Avx2,
        ["avx2", "fma", "f16c", "popcnt"];
    /// AVX2 with AVX-VNNI (Alder Lake on).
    AvxVnni [Avx2, Avx2, AvxVnni] = "avx_vnni", "x86_64", is_x86_feature_detected,
        crate::arch::x86_avx_vnni::AvxVnni,
        ["avx2", "fma", "f16c", "popcnt", "avxvnni"];
    /// AVX-512 F, BW, DQ, VL.
    Avx512 [Avx512, Avx512, Avx512] = "avx512", "x86_64", is_x86_feature_detected,
        crate::arch::x86_avx512::Avx512,
        ["avx2", "fma", "f16c", "popcnt", "avx512f", "avx512bw", "avx512dq", "avx512vl"];
    /// AVX-512 with VNNI (Cascade Lake on).
    Avx512Vnni [Avx512, Avx512, Avx512Vnni] = "avx512_vnni", "x86_64", is_x86_feature_detected,
        crate::arch::x86_avx512_vnni::Avx512Vnni,
        ["avx2", "fma", "f16c", "popcnt", "avx512f", "avx512bw", "avx512dq", "avx512vl",
         "avx512vnni"];
    /// AVX-512 with VNNI and BF16 (Cooper Lake, Zen 4 on).
    Avx512Bf16 [Avx512, Avx512Bf16, Avx512Vnni] = "avx512_bf16", "x86_64", is_x86_feature_detected,
        crate::arch::x86_avx512_bf16::Avx512Bf16,
        ["avx2", "fma", "f16c", "popcnt", "avx512f", "avx512bw", "avx512dq", "avx512vl",
         "avx512vnni", "avx512bf16"];
    /// Armv8-A Advanced SIMD.
    Neon [Neon, Neon, Neon] = "neon", "aarch64", is_aarch64_feature_detected,
        crate::arch::arm_neon::Neon, ["neon"];
    /// With the dot product of bytes (FEAT_DotProd: Cortex-A55 and A75, Neoverse N1, Apple A13 on).
    NeonDotprod [Neon, Neon, NeonDotprod] = "neon_dotprod", "aarch64", is_aarch64_feature_detected,
        crate::arch::arm_neon_dotprod::NeonDotprod, ["neon", "dotprod"];
    /// With scalable vectors of 256 or 512 bits (FEAT_SVE: Fujitsu A64FX).
    Sve [Neon, Neon, Neon, Sve] = "sve", "aarch64",
        is_aarch64_feature_detected and crate::arch::arm_sve::is_present,
        crate::arch::arm_sve::Sve, ["neon", "sve"];
    /// With the matrix products of bytes and bfloat16 (FEAT_I8MM and FEAT_BF16, both part of
    /// Armv8.6: Neoverse V1 and N2, Cortex-A510, A710 and X2, Apple M2 on).
    NeonMmla [Neon, NeonMmla, NeonMmla] = "neon_mmla", "aarch64", is_aarch64_feature_detected,
        crate::arch::arm_neon_mmla::NeonMmla, ["neon", "dotprod", "i8mm", "bf16"];
    /// With a matrix unit of 512 bits (FEAT_SME: Apple M4 and A18, Arm C1, Oryon of the third
    /// generation on).
    Sme [Neon, NeonMmla, NeonMmla, Sme] = "sme", "aarch64",
        is_aarch64_feature_detected and crate::arch::arm_sme::is_present,
        crate::arch::arm_sme::Sme, ["neon", "dotprod", "i8mm", "bf16"];
}

/// An instruction-set level that this machine was seen to have.
///
/// Only detection makes one, so running a kernel on it is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(Level);

/// Why a named level cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsaError {
    /// No level of that name in this build.
    Unknown(String),
    /// The level exists but this processor lacks it.
    Missing(&'static str),
}

impl std::fmt::Display for IsaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = || LEVELS.iter().map(|l| l.1).collect::<Vec<_>>().join(", ");
        match self {
            Self::Unknown(name) => {
                write!(f, "unknown instruction set `{name}`; this build knows {}", known())
            }
            Self::Missing(name) => write!(f, "this processor has no `{name}`"),
        }
    }
}

impl std::error::Error for IsaError {}

impl Isa {
    /// The baseline every machine has.
    pub const PORTABLE: Self = Self(Level::Portable);

    /// Every level this machine has, oldest first.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        LEVELS.iter().filter(|(_, _, has)| has()).map(|&(level, _, _)| Self(level))
    }

    /// Every level name this build knows, oldest first, present or not.
    pub fn known() -> impl Iterator<Item = &'static str> {
        LEVELS.iter().map(|&(_, name, _)| name)
    }

    /// The newest level this machine has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().next_back().unwrap_or(Self::PORTABLE)
    }

    /// The level called `name`.
    ///
    /// # Errors
    /// [`IsaError`] where the name is unknown or the processor lacks the level.
    pub fn from_name(name: &str) -> Result<Self, IsaError> {
        let &(level, name, has) = LEVELS
            .iter()
            .find(|l| l.1 == name)
            .ok_or_else(|| IsaError::Unknown(name.to_owned()))?;
        if has() { Ok(Self(level)) } else { Err(IsaError::Missing(name)) }
    }

    /// The level named by `TENON_ISA`, or the best one where the variable is unset or empty.
    ///
    /// # Errors
    /// [`IsaError`] as for [`Isa::from_name`].
    pub fn from_env() -> Result<Self, IsaError> {
        match std::env::var("TENON_ISA") {
            Ok(name) if !name.is_empty() => Self::from_name(&name),
            _ => Ok(Self::best()),
        }
    }

    /// The name that `TENON_ISA` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        LEVELS.iter().find(|l| l.0 == self.0).map_or("portable", |l| l.1)
    }
}
