//! Tensors shared with other libraries, without a copy, by DLPack's structs of version 1.0
//! (<https://dmlc.github.io/dlpack/latest/c_api.html>) and of the time before it.

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use tenon_runtime::tensor::{Storage, Tensor};
use tenon_runtime::{DType, Result, Shape, TensorDesc};

use crate::abi;
use crate::convert::{slice, string, unique};
use crate::graph::GraphHandle;
use crate::handle::with;
use crate::session::SessionHandle;
use crate::status::{argument, guard};

/// `kDLCPU`.
const CPU: i32 = 1;

/// `DLPACK_FLAG_BITMASK_READ_ONLY`.
const READ_ONLY: u64 = 1;

/// Type codes with their bits. The first of a type is what it is given as.
const TYPES: &[(DType, u8, u8)] = &[
    (DType::F32, 2, 32),
    (DType::F16, 2, 16),
    (DType::BF16, 4, 16),
    (DType::I8, 0, 8),
    (DType::I32, 0, 32),
    (DType::U8, 1, 8),
    (DType::U8, 6, 8),
];

#[repr(C)]
struct DLDataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DLTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    dtype: DLDataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct DLManagedTensor {
    tensor: DLTensor,
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

#[repr(C)]
struct DLManagedTensorVersioned {
    major: u32,
    minor: u32,
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
    flags: u64,
    tensor: DLTensor,
}

/// What the two structs have in common.
trait Managed: Sized {
    /// A struct that [`delete`] takes back.
    fn new(tensor: DLTensor, is_writable: bool) -> Result<Self>;
    /// Whether it is laid out as here.
    fn check_version(&self) -> Result<()>;
    fn tensor(&self) -> &DLTensor;
    fn tensor_mut(&mut self) -> &mut DLTensor;
    fn is_writable(&self) -> bool;
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)>;
}

impl Managed for DLManagedTensor {
    fn new(tensor: DLTensor, is_writable: bool) -> Result<Self> {
        if !is_writable {
            return Err(argument("DLPack before 1.0 cannot say that memory is read-only"));
        }
        Ok(Self { tensor, manager: std::ptr::null_mut(), deleter: Some(delete::<Self>) })
    }

    fn check_version(&self) -> Result<()> {
        Ok(())
    }

    fn tensor(&self) -> &DLTensor {
        &self.tensor
    }

    fn tensor_mut(&mut self) -> &mut DLTensor {
        &mut self.tensor
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

impl Managed for DLManagedTensorVersioned {
    fn new(tensor: DLTensor, is_writable: bool) -> Result<Self> {
        let (manager, deleter) = (std::ptr::null_mut(), Some(delete::<Self> as _));
        let flags = if is_writable { 0 } else { READ_ONLY };
        Ok(Self { major: 1, minor: 0, manager, deleter, flags, tensor })
    }

    fn check_version(&self) -> Result<()> {
        match self.major {
            1 => Ok(()),
            other => Err(argument(format!("the tensor is of DLPack {other}, not 1"))),
        }
    }

    fn tensor(&self) -> &DLTensor {
        &self.tensor
    }

    fn tensor_mut(&mut self) -> &mut DLTensor {
        &mut self.tensor
    }

    fn is_writable(&self) -> bool {
        self.flags & READ_ONLY == 0
    }

    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

/// What a struct that was handed out keeps alive, and the arrays that it points to.
#[repr(C)]
struct Shared<M> {
    managed: M,
    dims: [i64; abi::TN_MAX_RANK as usize],
    strides: [i64; abi::TN_MAX_RANK as usize],
    _storage: Storage,
}

/// The deleter of what is handed out.
unsafe extern "C" fn delete<M>(managed: *mut M) {
    guard(None, || {
        // SAFETY: `share` boxed it, with the struct first; its holder deletes it once.
        drop(unsafe { Box::from_raw(managed.cast::<Shared<M>>()) });
        Ok(())
    });
}

/// Hands out a tensor that lies at `offset` of a storage.
fn share<M: Managed>(desc: &TensorDesc, storage: &Storage, offset: usize) -> Result<*mut M> {
    let (kind, mut dims) = (desc.dtype(), desc.shape().to_vec());
    let &(_, code, bits) = match kind {
        // Blocks are for those who know them: the bytes of each row.
        DType::Quant(_) => {
            let rows: usize = dims.iter().rev().skip(1).product();
            if let Some(last) = dims.last_mut() {
                *last = desc.bytes() / rows.max(1);
            }
            &(DType::U8, 1, 8)
        }
        _ => TYPES.iter().find(|t| t.0 == kind).ok_or_else(|| argument("an unknown type"))?,
    };
    let mut sizes = [0; abi::TN_MAX_RANK as usize];
    let mut strides = sizes;
    let mut stride = 1;
    for (i, &dim) in dims.iter().enumerate().rev() {
        // Shapes fit isize.
        (sizes[i], strides[i]) = (dim as i64, stride);
        stride *= dim.max(1) as i64;
    }
    let tensor = DLTensor {
        data: storage.as_ptr()?.wrapping_add(offset).cast(),
        device_type: CPU,
        device_id: 0,
        ndim: dims.len() as i32,
        dtype: DLDataType { code, bits, lanes: 1 },
        shape: std::ptr::null_mut(),
        strides: std::ptr::null_mut(),
        byte_offset: 0,
    };
    let managed = M::new(tensor, storage.is_writable())?;
    let mut shared = Box::new(Shared { managed, dims: sizes, strides, _storage: storage.clone() });
    // They lead into the box, where the arrays stay.
    let (dims, strides) = (&raw mut shared.dims, &raw mut shared.strides);
    let tensor = shared.managed.tensor_mut();
    (tensor.shape, tensor.strides) = (dims.cast(), strides.cast());
    Ok(Box::into_raw(shared).cast())
}

/// What is taken from another library: given back by its deleter.
struct Taken<M: Managed>(NonNull<M>);

// SAFETY: DLPack lets any thread call the deleter; nothing else of it is used.
unsafe impl<M: Managed> Send for Taken<M> {}
// SAFETY: as above.
unsafe impl<M: Managed> Sync for Taken<M> {}

impl<M: Managed> Drop for Taken<M> {
    fn drop(&mut self) {
        // SAFETY: it was taken from a caller who vouched for it, and is given back once.
        unsafe {
            if let Some(deleter) = self.0.as_ref().deleter() {
                deleter(self.0.as_ptr());
            }
        }
    }
}

/// The type and shape of another library's tensor, which must be one that Tenon can have.
///
/// # Safety
/// DLPack's contract for the tensor's pointers.
unsafe fn describe(tensor: &DLTensor) -> Result<TensorDesc> {
    if tensor.device_type != CPU {
        return Err(argument(format!(
            "the tensor is on device {}, not 1, CPU",
            tensor.device_type
        )));
    }
    let kind = (tensor.dtype.code, tensor.dtype.bits);
    let dtype = TYPES.iter().find(|t| (t.1, t.2) == kind && tensor.dtype.lanes == 1);
    let &(dtype, ..) = dtype.ok_or_else(|| {
        argument(format!("elements of code {} in {} bits are not known", kind.0, kind.1))
    })?;
    let rank = usize::try_from(tensor.ndim).unwrap_or(usize::MAX);
    if rank > abi::TN_MAX_RANK as usize {
        return Err(argument(format!("rank {} is above {}", tensor.ndim, abi::TN_MAX_RANK)));
    }
    // SAFETY: the caller's contract.
    let dims = unsafe { slice(tensor.shape.cast_const(), rank, "shape")? };
    let sizes: Vec<usize> = dims.iter().filter_map(|&d| d.try_into().ok()).collect();
    if sizes.len() != rank {
        return Err(argument(format!("dims {dims:?} hold a negative one")));
    }
    let desc = TensorDesc::new(dtype, Shape::new(&sizes)?)?;
    if !tensor.strides.is_null() && desc.numel() > 1 {
        // SAFETY: the caller's contract.
        let strides = unsafe { slice(tensor.strides.cast_const(), rank, "strides")? };
        let mut compact = 1;
        for (&dim, &stride) in dims.iter().zip(strides).rev() {
            if dim != 1 && stride != compact {
                return Err(argument("the tensor is not contiguous and row-major"));
            }
            compact *= dim;
        }
    }
    Ok(desc)
}

/// Adds a parameter that lies in another library's memory.
///
/// # Safety
/// `given` is NULL or what the header says of `tensor`.
unsafe fn adopt<M: Managed + 'static>(
    handle: &mut GraphHandle,
    name: &str,
    given: *mut M,
    trainable: bool,
) -> Result<abi::tn_value> {
    let given = NonNull::new(given).ok_or_else(|| argument("`tensor` is NULL"))?;
    // SAFETY: the caller's contract.
    let managed = unsafe { given.as_ref() };
    managed.check_version()?;
    let (tensor, is_writable) = (managed.tensor(), managed.is_writable());
    // SAFETY: the caller's contract.
    let desc = unsafe { describe(tensor)? };
    let data = tensor.data.wrapping_byte_add(tensor.byte_offset as usize).cast::<u8>();
    let aligned = data.addr().is_multiple_of(desc.dtype().row_bytes(1).unwrap_or(1));
    let data = match NonNull::new(data).filter(|_| aligned) {
        _ if desc.bytes() == 0 => NonNull::<u64>::dangling().cast(),
        None => return Err(argument("the tensor's data is NULL or misaligned")),
        Some(data) => data,
    };
    if trainable && !is_writable {
        return Err(argument("the tensor is read-only: it cannot train"));
    }
    let value = handle.graph.parameter(name, desc.clone(), trainable)?;
    // From here on nothing fails, so that a tensor is taken only where the call succeeds. By the caller's
    // own pointer: one of ours would end with the next call that is given the same.
    let owner = Arc::new(Taken(given));
    // SAFETY: by DLPack's contract it is valid until its deleter is called.
    let storage = unsafe { Storage::lent(data, desc.bytes(), is_writable, owner) };
    handle.tensors.insert(name.to_owned(), Tensor::new(desc, storage)?);
    Ok(crate::graph::number(value))
}

/// The struct that a major version of DLPack has: `$old` is that of before 1.0.
macro_rules! by_version {
    ($major:expr, $old:expr, $new:expr) => {
        match $major {
            0 => $old,
            1 => $new,
            other => Err(argument(format!("DLPack's version is 0 or 1, not {other}"))),
        }
    };
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_dlpack(
    session: *mut abi::tn_session,
    name: *const c_char,
    major: u32,
    tensor: *mut *mut c_void,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(session, |handle: &mut SessionHandle| {
            let (name, out) = (string(name, "name")?, unique(tensor, "tensor")?);
            let (desc, storage, offset) = handle.source(name)?.view(name)?;
            *out = by_version!(
                major,
                share::<DLManagedTensor>(desc, storage, offset).map(<*mut _>::cast),
                share::<DLManagedTensorVersioned>(desc, storage, offset).map(<*mut _>::cast)
            )?;
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_graph_parameter_dlpack(
    graph: *mut abi::tn_graph,
    name: *const c_char,
    major: u32,
    tensor: *mut c_void,
    trainable: i32,
    value: *mut abi::tn_value,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(graph, |handle: &mut GraphHandle| {
            let (name, out) = (string(name, "name")?, unique(value, "value")?);
            *out = by_version!(
                major,
                adopt::<DLManagedTensor>(handle, name, tensor.cast(), trainable != 0),
                adopt::<DLManagedTensorVersioned>(handle, name, tensor.cast(), trainable != 0)
            )?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout of dlpack.h on 64-bit machines.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn structs_are_laid_out_as_dlpack_has_them() {
        assert_eq!((size_of::<DLTensor>(), std::mem::offset_of!(DLTensor, byte_offset)), (48, 40));
        assert_eq!(size_of::<DLManagedTensor>(), 64);
        assert_eq!(size_of::<DLManagedTensorVersioned>(), 80);
        assert_eq!(std::mem::offset_of!(DLManagedTensorVersioned, tensor), 32);
    }

    /// For Miri, too, which sees every use of what is gone.
    #[test]
    fn handles_and_tensors_go_in_any_order() {
        use abi::*;
        let ok = TN_OK as tn_status;
        // SAFETY: good arguments, by the header.
        unsafe {
            let options = tn_context_options {
                struct_size: size_of::<tn_context_options>(),
                threads: 1,
                ..std::mem::zeroed()
            };
            let (mut context, mut graph, mut session) =
                (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
            assert_eq!(tn_context_create(&raw const options, &raw mut context), ok);
            assert_eq!(tn_graph_create(context, &raw mut graph), ok);
            let (mut w, mut loss, dims, data) = (0, 0, [2i64, 3], [1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
            let name = c"w".as_ptr();
            let (f32, from) = (TN_F32 as i32, data.as_ptr().cast());
            let status =
                tn_graph_parameter(graph, name, f32, dims.as_ptr(), 2, from, 24, 1, &raw mut w);
            assert_eq!(status, ok);
            let axes = [0i64, 1];
            let attr = tn_attr {
                struct_size: size_of::<tn_attr>(),
                name: c"axes".as_ptr(),
                kind: TN_ATTR_INTS as i32,
                integers: axes.as_ptr(),
                integer_count: 2,
                ..std::mem::zeroed()
            };
            let (sum, none) = (c"reduce_sum".as_ptr(), std::ptr::null_mut());
            let status = tn_graph_add(
                graph,
                sum,
                &raw const attr,
                1,
                &raw const w,
                1,
                &raw mut loss,
                1,
                none,
            );
            assert_eq!(status, ok);
            assert_eq!(tn_session_create(graph, loss, std::ptr::null(), &raw mut session), ok);
            tn_graph_destroy(graph);
            tn_context_destroy(context);
            let mut tensors = [std::ptr::null_mut(); 2];
            for (major, tensor) in tensors.iter_mut().enumerate() {
                assert_eq!(tn_session_dlpack(session, name, major as u32, tensor), ok);
            }
            assert_eq!(tn_session_step(session, std::ptr::null(), std::ptr::null_mut()), ok);
            tn_session_destroy(session);
            let [old, new] = tensors;
            let (old, new) =
                (old.cast::<DLManagedTensor>(), new.cast::<DLManagedTensorVersioned>());
            let first = (*old).tensor.data.cast::<f32>();
            assert!(*first < 1.0 && first == (*new).tensor.data.cast());
            (*old).deleter.expect("Tenon's have one")(old);
            // What was shared serves another graph, which gives it back.
            assert_eq!(tn_context_create(&raw const options, &raw mut context), ok);
            assert_eq!(tn_graph_create(context, &raw mut graph), ok);
            assert_eq!(tn_graph_parameter_dlpack(graph, name, 1, new.cast(), 1, &raw mut w), ok);
            let status = tn_graph_parameter_dlpack(graph, name, 1, new.cast(), 1, &raw mut w);
            assert_eq!(status, TN_ERROR_GRAPH as tn_status);
            tn_context_destroy(context);
            tn_graph_destroy(graph);
        }
    }
}
