//! The table form of a kernel family: one row makes an operation real.

/// Declares a family's enum from its table of operations.
///
/// A row is `Variant { field: sample, ... } = "name", path::Type;` where `Type` has the same fields
/// and implements the family's operation trait. The enum gets its variants, `SAMPLES` (every
/// operation, the parametrised ones with the sample values: what tests and benches iterate over),
/// `name` and `visit`, which hands the operation's own type to a generic visitor.
macro_rules! family {
    (
        $(#[$doc:meta])*
        pub enum $family:ident visited by $visitor:ident {
            $(
                $(#[$op_doc:meta])*
                $variant:ident
                $({ $($(#[$field_doc:meta])* $field:ident: $sample:expr),* })?
                = $name:literal, $op:path;
            )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum $family {
            $($(#[$op_doc])* $variant $({ $($(#[$field_doc])* $field: f32),* })?,)*
        }

        impl $family {
            /// Every operation, with sample values for its parameters.
            pub const SAMPLES: &[Self] = &[$(Self::$variant $({ $($field: $sample),* })?),*];

            /// The operation's name, as the graph spells it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)* }
            }

            /// Calls `visitor` with the operation's own type.
            #[inline(always)]
            pub fn visit<V: $visitor>(self, visitor: V) -> V::Out {
                match self {
                    $(Self::$variant $({ $($field),* })? => {
                        use $op as Op;
                        visitor.visit(Op $({ $($field),* })?)
                    })*
                }
            }
        }
    };
}
