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

            /// Its SPIR-V, as bytes of little-endian words.
            pub(super) const fn spirv(self) -> &'static [u8] {
                match self {
                    $(Self::$shader => include_bytes!(concat!("shaders/spirv/", $name, ".spv")),)*
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

shaders! {
    /// Elementwise chains, with any broadcasting of up to seven operands.
    Elementwise = "elementwise", "elementwise/elementwise.comp", 8, Baseline, [];
}
