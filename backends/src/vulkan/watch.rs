//! The validation layers: what they say becomes an error.

use std::sync::{Arc, Mutex, PoisonError};

use tenon_runtime::Result;
use vulkano::instance::debug::{
    DebugUtilsMessageSeverity, DebugUtilsMessageType, DebugUtilsMessenger,
    DebugUtilsMessengerCallback, DebugUtilsMessengerCreateInfo, ValidationFeatureEnable,
};
use vulkano::instance::{Instance, InstanceCreateInfo};

use super::device::failed;

const LAYER: &str = "VK_LAYER_KHRONOS_validation";

/// Asks an instance for the layers.
pub(super) fn enable(create: &mut InstanceCreateInfo) {
    create.enabled_layers.push(LAYER.to_owned());
    create.enabled_extensions.ext_debug_utils = true;
    create.enabled_extensions.ext_validation_features = true;
    create.enabled_validation_features = vec![ValidationFeatureEnable::SynchronizationValidation];
}

/// Listens to the layers.
pub(super) struct Watch {
    messages: Arc<Mutex<Vec<String>>>,
    _messenger: DebugUtilsMessenger,
}

impl Watch {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`] where the instance has no such layers.
    pub(super) fn new(instance: &Arc<Instance>) -> Result<Self> {
        let messages = Arc::new(Mutex::new(Vec::new()));
        let heard = messages.clone();
        // SAFETY: it calls nothing of Vulkan.
        let callback = unsafe {
            DebugUtilsMessengerCallback::new(move |_, _, said| {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                // Newer layers do not say in the message which rule it is.
                heard.push(format!("{}: {}", said.message_id_name.unwrap_or(""), said.message));
            })
        };
        let create = DebugUtilsMessengerCreateInfo {
            message_severity: DebugUtilsMessageSeverity::ERROR | DebugUtilsMessageSeverity::WARNING,
            message_type: DebugUtilsMessageType::VALIDATION,
            ..DebugUtilsMessengerCreateInfo::user_callback(callback)
        };
        let messenger = DebugUtilsMessenger::new(instance.clone(), create).map_err(failed)?;
        Ok(Self { messages, _messenger: messenger })
    }

    /// What was said since the last time.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`] with that, if there was anything.
    pub(super) fn check(&self) -> Result<()> {
        let said =
            std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner));
        if said.is_empty() {
            Ok(())
        } else {
            Err(failed(format_args!("validation: {}", said.join("\n"))))
        }
    }
}

impl Drop for Watch {
    /// What is said as the device goes has no one else to hear it.
    fn drop(&mut self) {
        if let Err(error) = self.check() {
            assert!(std::thread::panicking(), "{error}");
        }
    }
}
