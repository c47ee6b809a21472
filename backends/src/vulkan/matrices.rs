//! Products of matrices that a device's subgroups compute as a whole, of which it has some sizes.

use ash::vk;
use vulkano::VulkanObject;
use vulkano::device::physical::PhysicalDevice;
use vulkano::shader::ShaderStages;

/// Rows and columns of results of a workgroup, and invocations of one (`include/matrix.glsl`).
const SIDE: u32 = 64;
const LANES: u32 = 256;
/// Steps that a slab of halves has, and one of bytes.
const HALF_STEPS: u32 = 32;
const BYTE_STEPS: u32 = 64;
/// The most bytes of shared memory that a workgroup takes: two slabs of halves in two pieces each.
const SHARED: u32 = 4 * (4 * SIDE * (HALF_STEPS / 2 + 4) + 2);

/// What a device multiplies; at least one of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matrices {
    /// f16, with sums in f32: constants 3 and on of shaders.
    pub(super) half: Option<Constants>,
    /// int8, with sums in i32: the same.
    pub(super) bytes: Option<Constants>,
}

/// Rows and columns of a product, steps of its sums, invocations of a subgroup.
pub(super) type Constants = [u32; 4];

impl Matrices {
    /// What a device has of what the shaders can use.
    pub(super) fn of(physical: &PhysicalDevice) -> Option<Self> {
        let (can, known) = (physical.supported_features(), physical.properties());
        let stages = known.cooperative_matrix_supported_stages?;
        let is_fit = can.cooperative_matrix
            && can.vulkan_memory_model
            && can.vulkan_memory_model_device_scope
            && can.shader_float16
            && can.shader_int8
            && can.compute_full_subgroups
            && stages.intersects(ShaderStages::COMPUTE)
            && known.max_compute_shared_memory_size >= SHARED;
        if is_fit { Self::among(&offers(physical)?, known.subgroup_size?) } else { None }
    }

    /// Of the products on offer, those to use in subgroups of that size.
    fn among(offers: &[vk::CooperativeMatrixPropertiesKHR<'_>], subgroup: u32) -> Option<Self> {
        use vk::ComponentTypeKHR as Of;
        let half = largest(offers, [Of::FLOAT16, Of::FLOAT32], HALF_STEPS, subgroup);
        let bytes = largest(offers, [Of::SINT8, Of::SINT32], BYTE_STEPS, subgroup);
        (half.is_some() || bytes.is_some()).then_some(Self { half, bytes })
    }
}

/// What a device that has such products offers.
fn offers(physical: &PhysicalDevice) -> Option<Vec<vk::CooperativeMatrixPropertiesKHR<'static>>> {
    let calls = &physical.instance().fns().khr_cooperative_matrix;
    let get = calls.get_physical_device_cooperative_matrix_properties_khr;
    let mut count = 0;
    // SAFETY: the device has the extension, so that the loader found its call; it writes the count.
    unsafe { get(physical.handle(), &mut count, std::ptr::null_mut()) }.result().ok()?;
    let mut offers = vec![vk::CooperativeMatrixPropertiesKHR::default(); count as usize];
    // SAFETY: as above; it writes no more than `count` of them.
    unsafe { get(physical.handle(), &mut count, offers.as_mut_ptr()) }.result().ok()?;
    offers.truncate(count as usize);
    Some(offers)
}

/// The product that does most at once, of those of operands and sums of such types into which slabs of
/// so many steps, and the results of a workgroup among its subgroups, can be cut.
fn largest(
    offers: &[vk::CooperativeMatrixPropertiesKHR<'_>],
    [operand, sum]: [vk::ComponentTypeKHR; 2],
    steps: u32,
    subgroup: u32,
) -> Option<Constants> {
    let is_fit = |offer: &&vk::CooperativeMatrixPropertiesKHR<'_>| {
        let &&vk::CooperativeMatrixPropertiesKHR { m_size, n_size, k_size, .. } = offer;
        let cuts = [(SIDE, m_size), (SIDE, n_size), (steps, k_size), (LANES, subgroup)];
        [offer.a_type, offer.b_type, offer.c_type, offer.result_type]
            == [operand, operand, sum, sum]
            && offer.scope == vk::ScopeKHR::SUBGROUP
            && offer.saturating_accumulation == vk::FALSE
            && cuts.iter().all(|&(whole, part)| part > 0 && whole.is_multiple_of(part))
            && (SIDE / m_size * (SIDE / n_size)).is_multiple_of(LANES / subgroup)
    };
    let fit = offers.iter().filter(is_fit);
    let best = fit.max_by_key(|offer| offer.m_size * offer.n_size * offer.k_size)?;
    Some([best.m_size, best.n_size, best.k_size, subgroup])
}

#[cfg(test)]
mod tests {
    use super::{Matrices, vk};
    use vk::ComponentTypeKHR as Of;

    /// An offer of a subgroup: rows, columns and steps, and types of operands and sums.
    fn offer(
        [m_size, n_size, k_size]: [u32; 3],
        [operand, sum]: [Of; 2],
    ) -> vk::CooperativeMatrixPropertiesKHR<'static> {
        vk::CooperativeMatrixPropertiesKHR::default()
            .m_size(m_size)
            .n_size(n_size)
            .k_size(k_size)
            .a_type(operand)
            .b_type(operand)
            .c_type(sum)
            .result_type(sum)
            .scope(vk::ScopeKHR::SUBGROUP)
    }

    const HALF: [Of; 2] = [Of::FLOAT16, Of::FLOAT32];
    const BYTES: [Of; 2] = [Of::SINT8, Of::SINT32];

    #[test]
    fn the_largest_that_fits_is_taken() {
        let offers = [
            offer([16, 8, 16], HALF),
            offer([16, 16, 16], HALF),
            offer([16, 16, 16], [Of::FLOAT16; 2]),
            offer([32, 32, 64], HALF),
            offer([16, 16, 32], BYTES),
            offer([16, 16, 64], [Of::UINT8, Of::UINT32]),
        ];
        let (half, bytes) = (Some([16, 16, 16, 32]), Some([16, 16, 32, 32]));
        assert_eq!(Matrices::among(&offers, 32), Some(Matrices { half, bytes }));
        // Subgroups of 8 are 32 in number, and each needs a matrix of results.
        let small = Matrices { half: Some([16, 8, 16, 8]), bytes: None };
        assert_eq!(Matrices::among(&offers, 8), Some(small));
        let few = offers.map(|o| offer([8, 8, 8], [o.a_type, o.c_type]));
        let (half, bytes) = (Some([8, 8, 8, 8]), Some([8, 8, 8, 8]));
        assert_eq!(Matrices::among(&few, 8), Some(Matrices { half, bytes }));
    }

    #[test]
    fn what_shaders_cannot_use_is_left() {
        let whole = offer([16, 16, 16], HALF).scope(vk::ScopeKHR::WORKGROUP);
        let capped = offer([16, 16, 32], BYTES).saturating_accumulation(true);
        let odd = offer([16, 12, 16], HALF);
        assert_eq!(Matrices::among(&[whole, capped, odd], 32), None);
        let bytes = offer([16, 16, 32], BYTES);
        let only = Matrices { half: None, bytes: Some([16, 16, 32, 64]) };
        assert_eq!(Matrices::among(&[whole, bytes], 64), Some(only));
    }
}
