// What every shader begins with.

#ifdef SUBGROUPS
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

// Push constants: `at[i]` is where binding i's operand begins, in words; `p` are the shader's own.
layout(push_constant) uniform Push { uint at[8]; uint p[24]; };

// Invocations of a workgroup; the sizes that a shader takes are in its launch file.
layout(local_size_x_id = 0) in;

// The number of this workgroup among those of x and y: counts beyond 65535 are folded into y.
uint group_number() { return gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x; }

#define LANES gl_WorkGroupSize.x
#ifdef SUBGROUPS
// Whether all subgroups are full; a driver may leave some of their invocations out.
#define WHOLE (gl_NumSubgroups * gl_SubgroupSize == LANES)
// Lanes of a subgroup are neighbours, whichever invocations a driver puts together.
uint lane() {
    return WHOLE ? gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID : gl_LocalInvocationID.x;
}
#define LANE lane()
#else
#define LANE gl_LocalInvocationID.x
#endif
#define INFINITY uintBitsToFloat(0x7f800000u)
#define NAN uintBitsToFloat(0x7fc00000u)

// Halves of a word as f32. bf16 is the upper half of an f32.
float bf16_low(uint w) { return uintBitsToFloat(w << 16); }
float bf16_high(uint w) { return uintBitsToFloat(w & 0xffff0000u); }

// To nearest even, as 16 bits; NaN stays NaN.
uint bf16_bits(float x) {
    uint b = floatBitsToUint(x);
    if ((b & 0x7fffffffu) > 0x7f800000u) { return (b >> 16) | 0x40u; }
    return (b + 0x7fffu + ((b >> 16) & 1u)) >> 16;
}

// `x` as bfloat16 has it.
float bf16_round(float x) { return uintBitsToFloat(bf16_bits(x) << 16); }

// To nearest even, as 16 bits of half precision: `packHalf2x16` may round any way.
uint f16_bits(float x) {
    uint b = floatBitsToUint(x), sign = (b >> 16) & 0x8000u;
    b &= 0x7fffffffu;
    if (b > 0x7f800000u) { return sign | 0x7e00u | ((b >> 13) & 0x3ffu); }
    if (b >= 0x477ff000u) { return sign | 0x7c00u; }
    if (b < 0x33000001u) { return sign; }
    uint drop = 13u, whole = b - 0x38000000u;
    if (b < 0x38800000u) {
        // A subnormal half: the hidden bit is shifted in.
        drop = 126u - (b >> 23);
        whole = (b & 0x7fffffu) | 0x800000u;
    }
    uint kept = whole >> drop, rest = whole & ((1u << drop) - 1u), tie = 1u << (drop - 1u);
    return sign | (kept + uint(rest > tie || (rest == tie && (kept & 1u) == 1u)));
}

// Half precision's 16 bits as f32; exact, subnormals too, where a device would flush them.
float f16_value(uint h) {
    uint size = h & 0x7fffu, sign = (h & 0x8000u) << 16;
    if (size < 0x400u) { return uintBitsToFloat(sign | floatBitsToUint(float(size) * 5.9604645e-8)); }
    return uintBitsToFloat(sign | ((size << 13) + (size >= 0x7c00u ? 0x70000000u : 0x38000000u)));
}
