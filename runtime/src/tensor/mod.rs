//! Element types, checked shapes, and host tensors.

mod dtype;
mod file_map;
mod mirror;
mod shape;
mod storage;

pub use dtype::{DType, Element};
pub use file_map::FileMap;
pub use mirror::Mirror;
pub use shape::{MAX_RANK, Shape};
pub(crate) use storage::one_behind_another;
pub use storage::{ALIGN, Allocator, Storage, SystemAllocator};

use tenon_kernels::Isa;

use crate::error::{Error, Result};

/// The type and shape of a tensor: contiguous, row-major.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorDesc {
    dtype: DType,
    shape: Shape,
    bytes: usize,
}

impl TensorDesc {
    /// Describes a tensor.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the byte size overflows, or a block-quantized row is not a whole
    /// number of blocks.
    pub fn new(dtype: DType, shape: Shape) -> Result<Self> {
        let rows = shape.split_last().map_or(1, |(_, outer)| outer.iter().product::<usize>());
        let columns = shape.last().copied().unwrap_or(1);
        let bytes = dtype
            .row_bytes(columns)
            .ok_or_else(|| {
                Error::Tensor(format!(
                    "rows of {columns} do not fill whole {dtype} blocks of {}",
                    dtype.block_elems()
                ))
            })?
            .checked_mul(rows)
            .filter(|&b| b <= shape::MOST)
            .ok_or_else(|| Error::Tensor(format!("{dtype}{shape} is larger than memory")))?;
        Ok(Self { dtype, shape, bytes })
    }

    /// An f32 tensor of `dims`.
    ///
    /// # Errors
    /// As [`TensorDesc::new`] and [`Shape::new`].
    pub fn f32(dims: &[usize]) -> Result<Self> {
        Self::new(DType::F32, Shape::new(dims)?)
    }

    /// An i32 tensor of `dims`.
    ///
    /// # Errors
    /// As [`TensorDesc::new`] and [`Shape::new`].
    pub fn i32(dims: &[usize]) -> Result<Self> {
        Self::new(DType::I32, Shape::new(dims)?)
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Number of elements.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last dimension, 1 for a scalar.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The product of all dimensions but the last.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }
}

impl std::fmt::Debug for TensorDesc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

impl std::fmt::Display for TensorDesc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

/// A tensor in host memory; clones share the bytes.
#[derive(Clone, Debug)]
pub struct Tensor {
    desc: TensorDesc,
    storage: Storage,
}

impl Tensor {
    /// A tensor over existing storage.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the storage is not exactly the description's size.
    pub fn new(desc: TensorDesc, storage: Storage) -> Result<Self> {
        if storage.len() != desc.bytes() {
            return Err(Error::Tensor(format!(
                "{desc} takes {} bytes, the storage has {}",
                desc.bytes(),
                storage.len()
            )));
        }
        Ok(Self { desc, storage })
    }

    /// A zeroed tensor from `allocator`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn zeros(desc: TensorDesc, allocator: &dyn Allocator) -> Result<Self> {
        let storage = Storage::zeroed(desc.bytes(), allocator)?;
        Ok(Self { desc, storage })
    }

    /// Zeroed tensors that share an allocation; see [`Storage::zeroed_together`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn zeros_together(
        descs: Vec<TensorDesc>,
        allocator: &dyn Allocator,
    ) -> Result<impl Iterator<Item = Self>> {
        let lens: Vec<_> = descs.iter().map(TensorDesc::bytes).collect();
        let storages = Storage::zeroed_together(&lens, allocator)?;
        Ok(descs.into_iter().zip(storages).map(|(desc, storage)| Self { desc, storage }))
    }

    /// A copy of `data` with shape `dims`.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the number of elements differs from the shape's.
    pub fn from_slice<T: Element>(dims: &[usize], data: &[T]) -> Result<Self> {
        let desc = TensorDesc::new(T::DTYPE, Shape::new(dims)?)?;
        if desc.numel() != data.len() {
            return Err(Error::Tensor(format!("{desc} has not {} elements", data.len())));
        }
        Self::new(desc, Storage::copied(T::bytes_of(data), &SystemAllocator)?)
    }

    /// Type and shape.
    #[must_use]
    pub fn desc(&self) -> &TensorDesc {
        &self.desc
    }

    /// The bytes.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Copies the elements out as f32, those in weight formats decoded.
    ///
    /// # Errors
    /// [`Error::DType`] for integers; [`Error::Tensor`] where `to` has another length.
    pub(crate) fn decode(&self, to: &mut [f32]) -> Result<()> {
        let dtype = self.desc.dtype();
        let format = dtype.format().ok_or(Error::DType {
            op: "decode",
            operand: 0,
            expected: "a weight format",
            found: dtype,
        })?;
        if to.len() != self.desc.numel() {
            return Err(Error::Tensor(format!("{} has not {} elements", self.desc, to.len())));
        }
        if dtype == DType::F32 {
            return self.storage.read(0, f32::bytes_of_mut(to));
        }
        // SAFETY: whole rows of blocks of the tensor's size, and as many elements to write; readers of
        // files keep float tensors aligned. Nothing that runs writes them meanwhile.
        unsafe {
            let from = self.storage.bytes()?.as_ptr();
            format.decode(Isa::best(), from, to.len(), to.as_mut_ptr());
        }
        Ok(())
    }

    /// The elements, copied out.
    ///
    /// # Errors
    /// [`Error::Tensor`] where `T` is not the tensor's element type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if self.desc.dtype() != T::DTYPE {
            return Err(Error::Tensor(format!("{} cannot be read as {}", self.desc, T::DTYPE)));
        }
        let mut out = vec![T::default(); self.desc.numel()];
        self.storage.read(0, T::bytes_of_mut(&mut out))?;
        Ok(out)
    }
}
