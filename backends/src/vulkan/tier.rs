//! What devices can do beyond the baseline, each with a switch.

use vulkano::Version;
use vulkano::device::physical::PhysicalDevice;
use vulkano::device::{DeviceExtensions, DeviceFeatures};
use vulkano::shader::ShaderStages;

use super::matrices::Matrices;
use super::shader::Shader;

/// What a shader needs of a device. The baseline needs no more than Vulkan 1.1 gives everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tier {
    /// f32 arithmetic; narrower elements are unpacked from words.
    Baseline,
    /// f16 arithmetic, and arrays of it.
    F16,
    /// Storage of one and two bytes.
    Int8,
    /// Shuffles within subgroups.
    Subgroups,
    /// Dot products of four packed bytes.
    Dot,
    /// Matrix products of whole subgroups.
    Matrix,
}

/// The tiers above the baseline, and the variable that switches each off.
pub(super) const ALL: [(Tier, &str, &str); 5] = [
    (Tier::F16, "f16", "TENON_VK_NO_F16"),
    (Tier::Int8, "int8", "TENON_VK_NO_INT8"),
    (Tier::Subgroups, "subgroups", "TENON_VK_NO_SUBGROUPS"),
    (Tier::Dot, "dot", "TENON_VK_NO_DOT"),
    (Tier::Matrix, "coopmat", "TENON_VK_NO_COOPMAT"),
];

impl Tier {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        ALL.iter().find(|t| t.0 == self).map_or("baseline", |t| t.1)
    }

    /// The names of its shaders.
    pub fn shaders(self) -> impl Iterator<Item = &'static str> {
        Shader::ALL.iter().filter(move |shader| shader.tier() == self).map(|shader| shader.name())
    }
}

/// A set of tiers; the baseline is always in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiers(u8);

impl Tiers {
    /// The tiers whose variable is set to anything but 0.
    pub(super) fn switched_off() -> Self {
        let is_set = |name: &str| std::env::var(name).is_ok_and(|value| value != "0");
        ALL.iter().filter(|(_, _, name)| is_set(name)).fold(Self(0), |set, t| set.with(t.0))
    }

    /// The tiers of these names, joined by `+` as they are displayed.
    pub(super) fn from_names(names: &str) -> Self {
        let named = |name: &str| ALL.iter().find(|t| t.1 == name).map(|t| t.0);
        names.split('+').filter_map(named).fold(Self(0), Self::with)
    }

    /// What a device offers.
    pub(super) fn of(physical: &PhysicalDevice) -> Self {
        let can = physical.supported_features();
        let known = physical.properties();
        use vulkano::device::physical::SubgroupFeatures;
        let subgroups = SubgroupFeatures::BASIC | SubgroupFeatures::SHUFFLE;
        let offered = [
            (Tier::F16, can.shader_float16 && can.storage_buffer16_bit_access),
            (Tier::Int8, can.storage_buffer8_bit_access && can.storage_buffer16_bit_access),
            (
                Tier::Subgroups,
                known.subgroup_supported_operations.is_some_and(|ops| ops.contains(subgroups))
                    && known
                        .subgroup_supported_stages
                        .is_some_and(|s| s.intersects(ShaderStages::COMPUTE)),
            ),
            (Tier::Dot, can.shader_integer_dot_product),
            (Tier::Matrix, Matrices::of(physical).is_some()),
        ];
        offered.iter().filter(|(_, has)| *has).fold(Self(0), |set, (tier, _)| set.with(*tier))
    }

    /// These and one more.
    #[must_use]
    pub fn with(self, tier: Tier) -> Self {
        match tier {
            Tier::Baseline => self,
            tier => Self(self.0 | 1 << tier as u8),
        }
    }

    /// These but for those.
    #[must_use]
    pub fn without(self, those: Self) -> Self {
        Self(self.0 & !those.0)
    }

    /// Those above the baseline.
    pub fn iter(self) -> impl Iterator<Item = Tier> {
        ALL.iter().map(|t| t.0).filter(move |tier| self.has(*tier))
    }

    /// Whether a tier is among them.
    #[must_use]
    pub fn has(self, tier: Tier) -> bool {
        tier == Tier::Baseline || self.0 & 1 << tier as u8 != 0
    }

    /// Whether subgroups can be asked to be full.
    pub(super) fn wants_whole(self, physical: &PhysicalDevice) -> bool {
        (self.has(Tier::Subgroups) || self.has(Tier::Matrix))
            && physical.supported_features().compute_full_subgroups
    }

    /// The extensions and features to enable for these.
    pub(super) fn needs(self, physical: &PhysicalDevice) -> (DeviceExtensions, DeviceFeatures) {
        let has = physical.supported_extensions();
        let is_old = |since: Version| physical.api_version() < since;
        let (f16, int8, matrix) =
            (self.has(Tier::F16), self.has(Tier::Int8), self.has(Tier::Matrix));
        let extensions = DeviceExtensions {
            ext_external_memory_host: has.ext_external_memory_host,
            khr_portability_subset: has.khr_portability_subset,
            khr_shader_float16_int8: (f16 || matrix) && is_old(Version::V1_2),
            khr_8bit_storage: int8 && is_old(Version::V1_2),
            khr_shader_integer_dot_product: self.has(Tier::Dot) && is_old(Version::V1_3),
            khr_vulkan_memory_model: matrix && is_old(Version::V1_2),
            khr_cooperative_matrix: matrix,
            ext_subgroup_size_control: self.wants_whole(physical) && is_old(Version::V1_3),
            ..DeviceExtensions::empty()
        };
        let features = DeviceFeatures {
            shader_float16: f16 || matrix,
            storage_buffer16_bit_access: f16 || int8,
            shader_int8: matrix,
            storage_buffer8_bit_access: int8,
            shader_integer_dot_product: self.has(Tier::Dot),
            vulkan_memory_model: matrix,
            // What other shaders' atomics have, once there is that model.
            vulkan_memory_model_device_scope: matrix,
            cooperative_matrix: matrix,
            compute_full_subgroups: self.wants_whole(physical),
            ..DeviceFeatures::empty()
        };
        (extensions, features)
    }
}

impl std::fmt::Display for Tiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("baseline")?;
        for (_, name, _) in ALL.iter().filter(|t| self.has(t.0)) {
            write!(f, "+{name}")?;
        }
        Ok(())
    }
}
