//! The device: vulkano finds and opens it, ash drives it through the same handles.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;
use tenon_runtime::{Error, Result};
use vulkano::device::physical::{PhysicalDevice, PhysicalDeviceType};
use vulkano::device::{DeviceCreateInfo, QueueCreateInfo, QueueFlags};
use vulkano::instance::{Instance, InstanceCreateFlags, InstanceCreateInfo, InstanceExtensions};
use vulkano::{Version, VulkanLibrary, VulkanObject};

use super::Options;
use super::faults::Faults;
use super::launch::{self, Dispatch};
use super::matrices::Matrices;
use super::shader::Shader;
use super::tier::{Tier, Tiers};
use super::times::Clock;
use super::watch::{self, Watch};

/// An error of this backend.
pub(super) fn failed(why: impl std::fmt::Display) -> Error {
    Error::Device { backend: "vulkan", why: why.to_string() }
}

/// What failed, and what Vulkan calls it.
pub(super) fn call(what: &'static str) -> impl Fn(vk::Result) -> Error {
    move |code| match code {
        vk::Result::ERROR_DEVICE_LOST => {
            failed(format_args!("{what}: the device is lost (a driver's reset, or its watchdog)"))
        }
        code => failed(format_args!("{what}: {code:?}")),
    }
}

/// What the device is and bears.
pub(super) struct Facts {
    /// Its name.
    pub(super) name: String,
    /// Which driver's, of which version: caches are kept by it.
    pub(super) driver: [u8; 16],
    /// Whether host and device see the same memory.
    pub(super) is_unified: bool,
    /// Whether it is a processor that only looks like a graphics card.
    pub(super) is_processor: bool,
    /// Whether it has memory of its own behind a bus.
    pub(super) is_discrete: bool,
    /// The most bytes a shader sees of a buffer.
    pub(super) max_binding: usize,
    /// What offsets into buffers are multiples of.
    pub(super) offset_align: usize,
    /// What addresses of host memory that the device is to see are multiples of; absent where it
    /// cannot.
    pub(super) import_align: Option<usize>,
    /// Largest number of workgroups along each axis.
    pub(super) max_groups: [u32; 3],
    /// What timestamps of the queue are, where it writes any.
    pub(super) clock: Option<Clock>,
    /// Invocations of a subgroup, where all can be asked to be full.
    pub(super) whole: Option<u32>,
    /// What subgroups multiply.
    pub(super) matrices: Option<Matrices>,
}

/// An open device.
pub(super) struct Device {
    pub(super) raw: ash::Device,
    pub(super) import: Option<ash::ext::external_memory_host::Device>,
    pub(super) memory: vk::PhysicalDeviceMemoryProperties,
    pub(super) facts: Facts,
    pub(super) tiers: Tiers,
    /// Which family the queue is of.
    pub(super) family: u32,
    queue: Mutex<vk::Queue>,
    is_lost: AtomicBool,
    faults: Option<Arc<Faults>>,
    // In the order they are to go.
    _device: Arc<vulkano::device::Device>,
    watch: Option<Watch>,
}

impl Device {
    /// Opens the device that the options ask for, or the fastest kind.
    ///
    /// # Errors
    /// [`Error::Device`] where there is no Vulkan here, or no such device.
    pub(super) fn open(options: &Options) -> Result<Self> {
        let none = |why: &dyn std::fmt::Display| failed(format_args!("no Vulkan here: {why}"));
        let library = VulkanLibrary::new().map_err(|e| none(&e))?;
        let instance = instance(library, options.validate).map_err(|e| none(&e))?;
        let watch = options.validate.then(|| Watch::new(&instance)).transpose()?;
        let physical = choose(&instance, options.device.as_deref())?;
        let tiers = Tiers::of(&physical).without(options.without);
        let family = queue_family(&physical)?;
        let (extensions, features) = tiers.needs(&physical);
        let queue = QueueCreateInfo { queue_family_index: family, ..Default::default() };
        let create = DeviceCreateInfo {
            queue_create_infos: vec![queue],
            enabled_extensions: extensions,
            enabled_features: features,
            ..Default::default()
        };
        let (device, mut queues) =
            vulkano::device::Device::new(physical.clone(), create).map_err(|e| {
                failed(format_args!("opening {}: {e}", physical.properties().device_name))
            })?;
        let queue = queues.next().ok_or_else(|| failed("a device without a queue"))?.handle();
        let (fns, calls) = (device.fns(), instance.fns());
        let raw = ash::Device::from_parts_1_3(
            device.handle(),
            fns.v1_0.clone(),
            fns.v1_1.clone(),
            fns.v1_2.clone(),
            fns.v1_3.clone(),
        );
        let ash_instance = ash::Instance::from_parts_1_3(
            instance.handle(),
            calls.v1_0.clone(),
            calls.v1_1.clone(),
            calls.v1_3.clone(),
        );
        // SAFETY: the physical device is of this instance.
        let memory =
            unsafe { ash_instance.get_physical_device_memory_properties(physical.handle()) };
        let facts = facts(&physical, &memory, family, options, tiers);
        let import = facts
            .import_align
            .map(|_| ash::ext::external_memory_host::Device::new(&ash_instance, &raw));
        drop(queues);
        Ok(Self {
            raw,
            import,
            memory,
            facts,
            tiers,
            family,
            queue: Mutex::new(queue),
            is_lost: AtomicBool::new(false),
            faults: options.faults.clone(),
            _device: device,
            watch,
        })
    }

    /// Hands command buffers to the queue, which one thread uses at a time.
    ///
    /// # Errors
    /// [`Error::Device`]; from a lost device on always.
    ///
    /// # Safety
    /// The buffers must be recorded and not pending, `fence` null or neither signalled nor pending,
    /// and what the buffers use must live until they are done.
    pub(super) unsafe fn submit(
        &self,
        buffers: &[vk::CommandBuffer],
        fence: vk::Fence,
    ) -> Result<()> {
        self.check_lost()?;
        let submit = [vk::SubmitInfo::default().command_buffers(buffers)];
        let submits = if buffers.is_empty() { &[] } else { &submit[..] };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match self.faults.as_ref().is_some_and(|f| f.submits.strikes()) {
            true => Err(vk::Result::ERROR_DEVICE_LOST),
            // SAFETY: the caller's contract; the lock keeps others from the queue.
            false => unsafe { self.raw.queue_submit(*queue, submits, fence) },
        };
        drop(queue);
        self.noted("submitting", done)
    }

    /// Waits for a fence.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub(super) fn wait(&self, fence: vk::Fence) -> Result<()> {
        self.check_lost()?;
        // SAFETY: a fence of this device.
        self.noted("waiting", unsafe { self.raw.wait_for_fences(&[fence], true, u64::MAX) })
    }

    /// Whether it can still be used.
    ///
    /// # Errors
    /// [`Error::Device`] where it is lost.
    pub(super) fn check_lost(&self) -> Result<()> {
        match self.is_lost.load(Ordering::Relaxed) {
            true => Err(call("using it")(vk::Result::ERROR_DEVICE_LOST)),
            false => Ok(()),
        }
    }

    fn noted(&self, what: &'static str, done: ash::prelude::VkResult<()>) -> Result<()> {
        if done == Err(vk::Result::ERROR_DEVICE_LOST) {
            self.is_lost.store(true, Ordering::Relaxed);
            let _queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the lock keeps others from the queue. What was submitted is over after this, in
            // one way or another, so that what it used can go.
            let _ = unsafe { self.raw.device_wait_idle() };
        }
        done.map_err(call(what))
    }

    /// Whether the validation layers are listened to.
    pub(super) fn is_validated(&self) -> bool {
        self.watch.is_some()
    }

    /// Whether barriers are left out, so that they are missed.
    pub(super) fn lacks_barriers(&self) -> bool {
        self.faults.as_ref().is_some_and(|faults| faults.barriers.load(Ordering::Relaxed))
    }

    /// Whether a dispatch does nothing, so that it is missed.
    pub(super) fn is_idle(&self, dispatch: &Dispatch) -> bool {
        let Some(faults) = &self.faults else { return false };
        let idle = *faults.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_set = |fault: &AtomicBool| fault.load(Ordering::Relaxed);
        match dispatch.shader.tier() {
            Tier::Baseline if dispatch.shader == Shader::Check => is_set(&faults.searches),
            Tier::Baseline => dispatch.kernels().contains(&launch::erf()) && is_set(&faults.erf),
            tier => idle.has(tier),
        }
    }

    /// Allocates memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Device`].
    pub(super) fn allocate(&self, info: &vk::MemoryAllocateInfo<'_>) -> Result<vk::DeviceMemory> {
        let bytes = usize::try_from(info.allocation_size).unwrap_or(usize::MAX);
        let made = match self.faults.as_ref().is_some_and(|f| f.allocations.strikes()) {
            true => Err(vk::Result::ERROR_OUT_OF_DEVICE_MEMORY),
            // SAFETY: a type of this device; no other pointer than the caller's chain.
            false => unsafe { self.raw.allocate_memory(info, None) },
        };
        made.map_err(|code| match code {
            vk::Result::ERROR_OUT_OF_DEVICE_MEMORY | vk::Result::ERROR_OUT_OF_HOST_MEMORY => {
                Error::OutOfMemory(bytes)
            }
            code => call("allocating")(code),
        })
    }

    /// What the validation layers have complained of, as an error.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub(super) fn check(&self) -> Result<()> {
        self.watch.as_ref().map_or(Ok(()), Watch::check)
    }

    /// The memory type that has all of `wanted`, of those in `among`, best with `liked`.
    pub(super) fn memory_type(
        &self,
        among: u32,
        wanted: vk::MemoryPropertyFlags,
        liked: vk::MemoryPropertyFlags,
    ) -> Option<u32> {
        let types = self.memory.memory_types_as_slice();
        let fits = |flags: vk::MemoryPropertyFlags| {
            let found =
                |i: &u32| among & 1 << i != 0 && types[*i as usize].property_flags.contains(flags);
            (0..types.len() as u32).find(found)
        };
        fits(wanted | liked).or_else(|| fits(wanted))
    }
}

/// Something of the device that goes with its owner.
pub(super) struct Owned<T: Copy> {
    handle: T,
    device: Arc<Device>,
    destroy: unsafe fn(&ash::Device, T),
}

impl<T: Copy> Owned<T> {
    /// # Safety
    /// `handle` must be of `device`, owned by nobody else and not in use when this is dropped;
    /// `destroy` must be what destroys it.
    pub(super) unsafe fn new(
        device: &Arc<Device>,
        handle: T,
        destroy: unsafe fn(&ash::Device, T),
    ) -> Self {
        Self { handle, device: device.clone(), destroy }
    }
}

impl<T: Copy> std::ops::Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.handle
    }
}

impl<T: Copy> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the contract of `new`.
        unsafe { (self.destroy)(&self.device.raw, self.handle) }
    }
}

fn instance(
    library: Arc<VulkanLibrary>,
    validate: bool,
) -> Result<Arc<Instance>, vulkano::Validated<vulkano::VulkanError>> {
    let is_portable = library.supported_extensions().khr_portability_enumeration;
    let mut create = InstanceCreateInfo {
        application_name: Some("tenon".to_owned()),
        max_api_version: Some(Version::V1_3),
        ..Default::default()
    };
    create.enabled_extensions =
        InstanceExtensions { khr_portability_enumeration: is_portable, ..Default::default() };
    if is_portable {
        create.flags = InstanceCreateFlags::ENUMERATE_PORTABILITY;
    }
    if validate {
        watch::enable(&mut create);
    }
    Instance::new(library, create)
}

/// The device whose name holds `wanted`, or the first of the fastest kind.
fn choose(instance: &Arc<Instance>, wanted: Option<&str>) -> Result<Arc<PhysicalDevice>> {
    let devices = instance.enumerate_physical_devices().map_err(failed)?;
    let fits = |d: &Arc<PhysicalDevice>| {
        let name = d.properties().device_name.to_lowercase();
        wanted.is_none_or(|wanted| name.contains(&wanted.to_lowercase()))
            && d.api_version() >= Version::V1_1
    };
    let rank = |d: &Arc<PhysicalDevice>| match d.properties().device_type {
        PhysicalDeviceType::DiscreteGpu => 0,
        PhysicalDeviceType::IntegratedGpu => 1,
        PhysicalDeviceType::VirtualGpu => 2,
        _ => 3,
    };
    let found = devices.filter(fits).min_by_key(rank);
    found.ok_or_else(|| match wanted {
        None => failed("no Vulkan here: no driver offers a device of Vulkan 1.1"),
        Some(wanted) => failed(format_args!("no device of Vulkan 1.1 is called `{wanted}`")),
    })
}

/// The queues that compute; best those that do nothing else.
fn queue_family(physical: &PhysicalDevice) -> Result<u32> {
    let families = physical.queue_family_properties();
    let computes = |i: &usize| families[*i].queue_flags.contains(QueueFlags::COMPUTE);
    let is_plain = |i: &usize| !families[*i].queue_flags.contains(QueueFlags::GRAPHICS);
    let all = || (0..families.len()).filter(computes);
    let best = all().find(is_plain).or_else(|| all().next());
    best.map(|i| i as u32).ok_or_else(|| failed("a device that does not compute"))
}

fn facts(
    physical: &PhysicalDevice,
    memory: &vk::PhysicalDeviceMemoryProperties,
    family: u32,
    options: &Options,
    tiers: Tiers,
) -> Facts {
    let known = physical.properties();
    let kind = known.device_type;
    let shared = vk::MemoryPropertyFlags::DEVICE_LOCAL
        | vk::MemoryPropertyFlags::HOST_VISIBLE
        | vk::MemoryPropertyFlags::HOST_COHERENT;
    let shares = memory.memory_types_as_slice().iter().any(|t| t.property_flags.contains(shared));
    let is_unified = shares && kind != PhysicalDeviceType::DiscreteGpu;
    let max_binding = known.max_storage_buffer_range as usize;
    let import_align = known.min_imported_host_pointer_alignment.map(|align| align as usize);
    let can_import = physical.supported_extensions().ext_external_memory_host;
    Facts {
        name: known.device_name.clone(),
        driver: driver(known),
        is_unified: options.unified.unwrap_or(is_unified),
        is_processor: kind == PhysicalDeviceType::Cpu,
        is_discrete: kind == PhysicalDeviceType::DiscreteGpu,
        max_binding: options.max_binding.map_or(max_binding, |most| most.min(max_binding)),
        offset_align: known.min_storage_buffer_offset_alignment.as_devicesize() as usize,
        import_align: import_align.filter(|_| can_import),
        max_groups: known.max_compute_work_group_count,
        clock: physical.queue_family_properties()[family as usize]
            .timestamp_valid_bits
            .filter(|bits| *bits > 0)
            .map(|bits| Clock { period: known.timestamp_period.into(), bits }),
        whole: known.subgroup_size.filter(|_| tiers.wants_whole(physical)),
        matrices: tiers.has(Tier::Matrix).then(|| Matrices::of(physical)).flatten(),
    }
}

/// What tells drivers and their versions apart.
fn driver(known: &vulkano::device::DeviceProperties) -> [u8; 16] {
    let mut id = known.pipeline_cache_uuid;
    let uuid = known.driver_uuid.unwrap_or_default();
    let version = known.driver_version.to_le_bytes();
    let device = known.device_id.to_le_bytes();
    for (i, byte) in uuid.iter().chain(&version).chain(&device).enumerate() {
        id[i % 16] = id[i % 16].rotate_left(3) ^ byte;
    }
    id
}
