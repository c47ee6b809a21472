//! Pipelines by shader and specialization.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ash::vk;
use tenon_runtime::Result;

use super::device::{Device, Owned, call};
use super::shader::Shader;
use super::tier::Tier;
use crate::cache::File;

/// Most bindings of a dispatch.
pub(super) const BINDINGS: usize = 8;

/// Bytes of push constants: what every device has.
pub(super) const PUSH: usize = 128;

/// A pipeline, and the layouts it shares with all of as many bindings.
#[derive(Clone, Copy)]
pub(super) struct Pipeline {
    pub(super) handle: vk::Pipeline,
    pub(super) layout: vk::PipelineLayout,
    pub(super) sets: vk::DescriptorSetLayout,
}

/// Layouts for a number of bindings.
struct Layouts {
    pipeline: Owned<vk::PipelineLayout>,
    sets: Owned<vk::DescriptorSetLayout>,
}

/// A shader with the values of its specialization constants.
type Key = (Shader, Box<[u32]>);

/// All pipelines made so far.
pub(super) struct Pipelines {
    device: Arc<Device>,
    made: Mutex<HashMap<Key, Owned<vk::Pipeline>>>,
    layouts: Vec<Layouts>,
    cache: Owned<vk::PipelineCache>,
    /// What is kept of them, and whether there is more by now.
    file: File,
    kept: Mutex<Kept>,
}

/// When the file was written last, and whether pipelines have been made since.
struct Kept {
    at: Instant,
    is_old: bool,
}

/// Least time between two writes of the file.
const PAUSE: Duration = Duration::from_secs(1);

impl Pipelines {
    pub(super) fn new(device: &Arc<Device>) -> Result<Self> {
        let layouts = (0..=BINDINGS).map(|n| Layouts::new(device, n)).collect::<Result<_>>()?;
        let file = File::new("vulkan", "pipelines", device.facts.driver);
        let known = file.read().unwrap_or_default();
        let info = vk::PipelineCacheCreateInfo::default().initial_data(&known);
        // SAFETY: empty, or what this driver gave, unchanged; destroyed after what was made with it.
        let cache = unsafe {
            let cache = device.raw.create_pipeline_cache(&info, None);
            let cache = cache.map_err(call("a pipeline cache"))?;
            Owned::new(device, cache, |d, c| d.destroy_pipeline_cache(c, None))
        };
        let kept = Mutex::new(Kept { at: Instant::now(), is_old: false });
        Ok(Self { device: device.clone(), made: Mutex::default(), layouts, cache, file, kept })
    }

    /// The pipeline of a shader, whose specialization constants 0, 1, … are `constants`.
    ///
    /// # Errors
    /// [`tenon_runtime::Error::Device`].
    pub(super) fn get(&self, shader: Shader, constants: &[u32]) -> Result<Pipeline> {
        let layouts = &self.layouts[shader.bindings()];
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (shader, Box::from(constants));
        let handle = match made.get(&key) {
            Some(pipeline) => **pipeline,
            None => {
                let pipeline = self.make(shader, constants, *layouts.pipeline)?;
                let handle = *pipeline;
                made.insert(key, pipeline);
                self.kept().is_old = true;
                handle
            }
        };
        Ok(Pipeline { handle, layout: *layouts.pipeline, sets: *layouts.sets })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file where there is more to keep: apps are ended without a word, so not only in the
    /// end.
    pub(super) fn keep(&self, at_once: bool) {
        let mut kept = self.kept();
        if !kept.is_old || !at_once && kept.at.elapsed() < PAUSE {
            return;
        }
        // SAFETY: a cache of this device.
        if let Ok(data) = unsafe { self.device.raw.get_pipeline_cache_data(*self.cache) } {
            self.file.write(&data);
        }
        *kept = Kept { at: Instant::now(), is_old: false };
    }

    fn make(
        &self,
        shader: Shader,
        constants: &[u32],
        layout: vk::PipelineLayout,
    ) -> Result<Owned<vk::Pipeline>> {
        let device = &self.device;
        let words = shader.spirv();
        let entries: Vec<_> = (0..constants.len() as u32)
            .map(|i| vk::SpecializationMapEntry { constant_id: i, offset: 4 * i, size: 4 })
            .collect();
        let bytes: Vec<u8> = constants.iter().flat_map(|c| c.to_ne_bytes()).collect();
        let values = vk::SpecializationInfo::default().map_entries(&entries).data(&bytes);
        let info = vk::ShaderModuleCreateInfo::default().code(&words);
        let is_whole = matches!(shader.tier(), Tier::Subgroups | Tier::Matrix)
            && device.facts.whole.is_some_and(|size| constants[0].is_multiple_of(size));
        let flags = match is_whole {
            true => vk::PipelineShaderStageCreateFlags::REQUIRE_FULL_SUBGROUPS,
            false => vk::PipelineShaderStageCreateFlags::empty(),
        };
        // SAFETY: checked-in SPIR-V that needs no more than the device's tiers (`Shader::tier`), with a
        // layout of its bindings and invocations in whole subgroups where that is asked for; the module is needed no longer than the pipeline is made.
        unsafe {
            let module = device.raw.create_shader_module(&info, None).map_err(call("a shader"))?;
            let module = Owned::new(device, module, |d, m| d.destroy_shader_module(m, None));
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(flags)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(*module)
                .name(c"main")
                .specialization_info(&values);
            let info = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout)];
            let made = device.raw.create_compute_pipelines(*self.cache, &info, None);
            let made = made.map_err(|(_, code)| call("a pipeline")(code))?;
            Ok(Owned::new(device, made[0], |d, p| d.destroy_pipeline(p, None)))
        }
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        self.keep(true);
    }
}

impl Layouts {
    fn new(device: &Arc<Device>, bindings: usize) -> Result<Self> {
        let bindings: Vec<_> = (0..bindings as u32)
            .map(|i| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(i)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        // SAFETY: valid descriptions; both are destroyed after the pipelines made with them.
        unsafe {
            let sets = device.raw.create_descriptor_set_layout(&info, None);
            let sets = sets.map_err(call("a descriptor set layout"))?;
            let sets = Owned::new(device, sets, |d, l| d.destroy_descriptor_set_layout(l, None));
            let push = [vk::PushConstantRange {
                stage_flags: vk::ShaderStageFlags::COMPUTE,
                offset: 0,
                size: PUSH as u32,
            }];
            let all = [*sets];
            let info = vk::PipelineLayoutCreateInfo::default()
                .set_layouts(&all)
                .push_constant_ranges(&push);
            let pipeline = device.raw.create_pipeline_layout(&info, None);
            let pipeline = pipeline.map_err(call("a pipeline layout"))?;
            let pipeline = Owned::new(device, pipeline, |d, l| d.destroy_pipeline_layout(l, None));
            Ok(Self { pipeline, sets })
        }
    }
}
