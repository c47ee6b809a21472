//! Models.

use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;

use tenon_runtime::models::Model;

use crate::abi;
use crate::context::{self, Context};
use crate::convert::string;
use crate::handle::{self, Handle};

/// A handle of a model.
pub(crate) struct ModelHandle {
    pub(crate) context: Arc<Context>,
    pub(crate) model: Model,
}

impl Handle for ModelHandle {
    type Opaque = abi::tn_model;
    type Beside = ();
    const NAME: &'static str = "model";

    fn context(&self) -> &Arc<Context> {
        &self.context
    }

    fn beside(&self) {}
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_model_load(
    context: *mut abi::tn_context,
    path: *const c_char,
    model: *mut *mut abi::tn_model,
) -> abi::tn_status {
    let load = |context: &Arc<Context>| {
        // SAFETY: the header's contract.
        let path = unsafe { string(path, "path")? };
        let model = Model::load(Path::new(path))?;
        let (kind, layers) = (&model.config.architecture, model.config.layers);
        context.log(&format!("{path}: {kind}, {layers} layers"));
        Ok(ModelHandle { context: context.clone(), model })
    };
    // SAFETY: the header's contract.
    unsafe { context::with(context, |context| handle::give(model, || load(context))) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_model_destroy(model: *mut abi::tn_model) {
    // SAFETY: the header's contract.
    unsafe { handle::destroy::<ModelHandle>(model) }
}
