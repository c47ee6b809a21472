//! What federated clients and servers exchange: parameters as vectors, messages, masks, sub-models.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::Arc;

use tenon_kernels::exchange::{Bits, Mask};
use tenon_kernels::random::Philox;
use tenon_runtime::federated::compress::{self, Compression};
use tenon_runtime::federated::message::Message;
use tenon_runtime::federated::secure::{self, FixedPoint};
use tenon_runtime::federated::submodel::{Axis, Submodel};
use tenon_runtime::federated::{parameters, sums};
use tenon_runtime::models::Model;
use tenon_runtime::{Result, Shape};

use crate::abi;
use crate::context::{self, Context};
use crate::convert::{apart, choice, slice, slice_mut, span, string, unique};
use crate::handle;
use crate::model::ModelHandle;
use crate::session::SessionHandle;
use crate::status::argument;
use crate::structs::{Place, array, options};

impl SessionHandle {
    /// Names of a set.
    fn set(&self, set: abi::tn_set) -> Result<impl Iterator<Item = &str> + Clone> {
        let (all, trainable) = self.counts();
        let adapters = self.trainable().take_while(|name| parameters::is_adapter(name)).count();
        let sets = [
            (abi::TN_SET_TRAINABLE, trainable),
            (abi::TN_SET_ALL, all),
            (abi::TN_SET_ADAPTERS, adapters),
        ];
        let count = choice(&sets, set, "tn_set")?;
        Ok((0..count).filter_map(|i| Some(self.name(i).ok()?.1)))
    }
}

/// Runs `body` on a context's workers.
///
/// # Safety
/// As [`context::with`].
unsafe fn with(
    context: *mut abi::tn_context,
    body: impl FnOnce(&Arc<Context>) -> Result<()>,
) -> abi::tn_status {
    // SAFETY: the caller's contract.
    unsafe { context::with(context, body) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_model_empty(
    context: *mut abi::tn_context,
    path: *const c_char,
    model: *mut *mut abi::tn_model,
) -> abi::tn_status {
    let make = |context: &Arc<Context>| {
        // SAFETY: the header's contract.
        let path = unsafe { string(path, "path")? };
        let model = Model::empty(Path::new(path), context.allocator())?;
        Ok(ModelHandle { context: context.clone(), model })
    };
    // SAFETY: the header's contract.
    unsafe { with(context, |context| handle::give(model, || make(context))) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_parameters_count(
    session: *mut abi::tn_session,
    set: abi::tn_set,
    count: *mut usize,
    elements: *mut usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        handle::with(session, |handle: &mut SessionHandle| {
            let names = handle.set(set)?;
            let found = parameters::count(handle.trainer.executor(), names.clone())?;
            if let Some(count) = count.as_mut() {
                *count = names.count();
            }
            if let Some(elements) = elements.as_mut() {
                *elements = found;
            }
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_parameters_read(
    session: *mut abi::tn_session,
    set: abi::tn_set,
    data: *mut f32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        handle::with(session, |handle: &mut SessionHandle| {
            let data = slice_mut(data, count, "data")?;
            parameters::read(handle.trainer.executor(), handle.set(set)?, data)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_parameters_write(
    session: *mut abi::tn_session,
    set: abi::tn_set,
    data: *const f32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        handle::with(session, |handle: &mut SessionHandle| {
            let data = slice(data, count, "data")?;
            parameters::write(handle.trainer.executor(), handle.set(set)?, data)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_parameters_difference(
    session: *mut abi::tn_session,
    set: abi::tn_set,
    start: *const f32,
    update: *mut f32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        handle::with(session, |handle: &mut SessionHandle| {
            apart(&[span(start, count), span(update, count)])?;
            let (start, update) =
                (slice(start, count, "start")?, slice_mut(update, count, "update")?);
            let (context, executor) = (handle::Handle::context(handle), handle.trainer.executor());
            parameters::difference(&context.cpu, executor, handle.set(set)?, start, update)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_parameters_add(
    session: *mut abi::tn_session,
    set: abi::tn_set,
    factor: f32,
    update: *const f32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        handle::with(session, |handle: &mut SessionHandle| {
            let update = slice(update, count, "update")?;
            let (context, executor) = (handle::Handle::context(handle), handle.trainer.executor());
            parameters::add(&context.cpu, executor, handle.set(set)?, factor, update)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_update_accumulate(
    context: *mut abi::tn_context,
    weight: f32,
    update: *const f32,
    sum: *mut f32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |context| {
            apart(&[span(update, count), span(sum, count)])?;
            let (update, sum) = (slice(update, count, "update")?, slice_mut(sum, count, "sum")?);
            sums::accumulate(&context.cpu, weight, update, sum)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_update_average(
    context: *mut abi::tn_context,
    weights: *const f32,
    sum: *mut f32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |context| {
            apart(&[span(weights, count), span(sum, count)])?;
            let (weights, sum) = (slice(weights, count, "weights")?, slice_mut(sum, count, "sum")?);
            sums::average(&context.cpu, weights, sum)
        })
    }
}

/// How a vector is compressed.
///
/// # Safety
/// As [`options`].
unsafe fn compression(how: *const abi::tn_compression) -> Result<Compression> {
    // SAFETY: the caller's contract.
    let given = unsafe { options(how)? };
    let bits = match given.bits {
        0 | 32 => None,
        bits => Some(Bits::from_count(bits).ok_or_else(|| {
            argument(format!("codes of {bits} bits are not known: give 2, 4, 8 or 32"))
        })?),
    };
    let keep = usize::try_from(given.keep).unwrap_or(usize::MAX);
    Ok(Compression { keep, bits, seed: given.seed, round: given.round })
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_update_bound(
    context: *mut abi::tn_context,
    how: *const abi::tn_compression,
    count: usize,
    size: *mut usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |_| {
            *unique(size, "size")? = compression(how)?.most_bytes(count)?;
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_update_compress(
    context: *mut abi::tn_context,
    how: *const abi::tn_compression,
    update: *const f32,
    residual: *mut f32,
    count: usize,
    bytes: *mut c_void,
    capacity: usize,
    size: *mut usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |context| {
            let (how, size) = (compression(how)?, unique(size, "size")?);
            let kept = if residual.is_null() { 0 } else { count };
            let message = span(bytes.cast::<u8>(), capacity);
            apart(&[span(update, count), span(residual, kept), message])?;
            let update = slice(update, count, "update")?;
            let residual = match residual.is_null() {
                true => None,
                false => Some(slice_mut(residual, count, "residual")?),
            };
            let bytes = slice_mut(bytes.cast(), capacity, "bytes")?;
            *size = compress::compress(&context.cpu, &how, update, residual, bytes)?;
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_update_inspect(
    context: *mut abi::tn_context,
    bytes: *const c_void,
    size: usize,
    message: *mut abi::tn_message,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |_| {
            let place = Place::new(message)?;
            let message = Message::read(slice(bytes.cast(), size, "bytes")?)?;
            message.check()?;
            let head = message.head;
            place.write(&abi::tn_message {
                struct_size: size_of::<abi::tn_message>(),
                count: head.count,
                kept: head.kept,
                bits: head.bits.map_or(32, Bits::count),
                unused: 0,
            });
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_update_add(
    context: *mut abi::tn_context,
    weight: f32,
    bytes: *const c_void,
    size: usize,
    sum: *mut f32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |context| {
            apart(&[span(bytes.cast::<u8>(), size), span(sum, count)])?;
            let bytes = slice(bytes.cast(), size, "bytes")?;
            compress::add(&context.cpu, weight, bytes, slice_mut(sum, count, "sum")?)
        })
    }
}

/// A fixed point.
///
/// # Safety
/// As [`options`].
unsafe fn fixed_point(given: *const abi::tn_fixed_point) -> Result<FixedPoint> {
    // SAFETY: the caller's contract.
    let given = unsafe { options(given)? };
    Ok(FixedPoint { clip: given.clip, clients: given.clients })
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_secure_encode(
    context: *mut abi::tn_context,
    fixed: *const abi::tn_fixed_point,
    weight: f32,
    x: *const f32,
    words: *mut u32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |context| {
            apart(&[span(x, count), span(words, count)])?;
            let (x, words) = (slice(x, count, "x")?, slice_mut(words, count, "words")?);
            secure::encode(&context.cpu, fixed_point(fixed)?, weight, x, words)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_secure_mask(
    context: *mut abi::tn_context,
    masks: *const abi::tn_mask,
    mask_count: usize,
    words: *mut u32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |context| {
            let mask = |m: abi::tn_mask| Mask {
                random: Philox::new(m.seed, m.round),
                negative: m.negative != 0,
            };
            let masks: Vec<Mask> = array(masks, mask_count)?.into_iter().map(mask).collect();
            secure::mask(&context.cpu, &masks, slice_mut(words, count, "words")?);
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_secure_add(
    context: *mut abi::tn_context,
    words: *const u32,
    sum: *mut u32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |context| {
            apart(&[span(words, count), span(sum, count)])?;
            let (words, sum) = (slice(words, count, "words")?, slice_mut(sum, count, "sum")?);
            secure::accumulate(&context.cpu, words, sum)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_secure_decode(
    context: *mut abi::tn_context,
    fixed: *const abi::tn_fixed_point,
    factor: f32,
    words: *const u32,
    x: *mut f32,
    count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |context| {
            apart(&[span(words, count), span(x, count)])?;
            let (words, x) = (slice(words, count, "words")?, slice_mut(x, count, "x")?);
            secure::decode(&context.cpu, fixed_point(fixed)?, factor, words, x)
        })
    }
}

/// A sub-model.
///
/// # Safety
/// The header's contract of `tn_submodel`.
unsafe fn submodel(given: *const abi::tn_submodel) -> Result<Submodel> {
    // SAFETY: the caller's contract.
    let given = unsafe { options(given)? };
    // SAFETY: as above.
    let (parameters, axes) = unsafe {
        (array(given.parameters, given.parameter_count)?, array(given.axes, given.axis_count)?)
    };
    let parameter = |p: &abi::tn_parameter| {
        // SAFETY: as above.
        let name = unsafe { string(p.name, "name")? };
        let dims = p.dims.get(..p.rank).ok_or_else(|| argument(format!("rank {}", p.rank)))?;
        let dims: Vec<usize> =
            dims.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
        Ok((name, Shape::new(&dims)?))
    };
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let axis = |a: abi::tn_axis| {
        // SAFETY: as above.
        let parameters = unsafe { string(a.parameters, "parameters")? }.to_owned();
        let (axis, unit) = (a.axis as usize, a.unit.max(1) as usize);
        Ok(Axis { parameters, axis, length: size(a.length), start: size(a.start), unit })
    };
    let parameters: Vec<_> = parameters.iter().map(parameter).collect::<Result<_>>()?;
    let axes: Vec<_> = axes.into_iter().map(axis).collect::<Result<_>>()?;
    Submodel::new(&parameters, &axes)
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_submodel_count(
    context: *mut abi::tn_context,
    given: *const abi::tn_submodel,
    count: *mut usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |_| {
            *unique(count, "count")? = submodel(given)?.part_count();
            Ok(())
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_submodel_extract(
    context: *mut abi::tn_context,
    given: *const abi::tn_submodel,
    whole: *const f32,
    whole_count: usize,
    part: *mut f32,
    part_count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |_| {
            apart(&[span(whole, whole_count), span(part, part_count)])?;
            let whole = slice(whole, whole_count, "whole")?;
            submodel(given)?.extract(whole, slice_mut(part, part_count, "part")?)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_submodel_add(
    context: *mut abi::tn_context,
    given: *const abi::tn_submodel,
    weight: f32,
    part: *const f32,
    part_count: usize,
    sum: *mut f32,
    weights: *mut f32,
    whole_count: usize,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        with(context, |context| {
            let [first, second] = [sum, weights].map(|sums| span(sums, whole_count));
            apart(&[span(part, part_count), first, second])?;
            let part = slice(part, part_count, "part")?;
            let sum = slice_mut(sum, whole_count, "sum")?;
            let weights = slice_mut(weights, whole_count, "weights")?;
            submodel(given)?.add(&context.cpu, weight, part, sum, weights)
        })
    }
}
