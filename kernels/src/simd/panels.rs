//! What a level with a matrix unit takes at once.

/// What a lane of a packed panel holds: all of it is summed into one f32, or one i32 for bytes.
#[derive(Clone, Copy, Debug)]
pub enum Lane {
    /// A number.
    F32,
    /// Two bfloat16 along the depth.
    Bf16,
    /// Four signed bytes along the depth.
    I8,
}

/// Panels packed side by side, those of A for rows of C and those of B for columns, and the place of
/// their product.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Panels {
    /// The first panel of A: `depth` rows of [`Simd::GEMM_MR`](super::Simd::GEMM_MR) lanes.
    pub a: *const f32,
    /// f32 from one panel of A to the next.
    pub a_step: usize,
    /// The first panel of B: `depth` rows of [`Simd::GEMM_NV`](super::Simd::GEMM_NV) vectors.
    pub b: *const f32,
    /// f32 from one panel of B to the next.
    pub b_step: usize,
    /// Rows of a panel.
    pub depth: usize,
    /// Where C begins.
    pub c: *mut f32,
    /// f32 from row to row of C.
    pub c_step: usize,
    /// Rows of C, at least 1.
    pub rows: usize,
    /// Columns of C, at least 1.
    pub columns: usize,
    /// Values for the columns, added to each row, or null; always so for bytes.
    pub bias: *const f32,
    /// Whether C is added to.
    pub accumulate: bool,
}
