//! The table form of a kernel family: one row makes an operation real.

/// Declares a family's enum from its table of operations.
///
/// A row is `Variant { field: sample, ... } = "name", path::Type;` where `Type` has the same fields
/// and implements the family's operation trait. The enum gets its variants, `SAMPLES` (every
/// operation, the parametrised ones with the sample values: what tests and benches iterate over),
/// `name`, `parameters` (two at most), `from_name` and `visit`, which hands the operation's own type to a generic visitor.
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

            /// The parameters, in the order of the table.
            pub fn parameters(self) -> impl Iterator<Item = f32> {
                let (count, values) = match self {
                    $(Self::$variant $({ $($field),* })? => {
                        let values: &[f32] = &[$($($field),*)?];
                        let mut padded = [0.0; 2];
                        padded[..values.len()].copy_from_slice(values);
                        (values.len(), padded)
                    })*
                };
                values.into_iter().take(count)
            }

            /// The operation called `name` with these parameters; `None` where there is none such.
            #[must_use]
            pub fn from_name(name: &str, parameters: &[f32]) -> Option<Self> {
                $(if name == $name {
                    let &[$($($field),*)?] = parameters else { return None };
                    return Some(Self::$variant $({ $($field),* })?);
                })*
                None
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
