#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef STORAGE
#extension GL_EXT_shader_8bit_storage : require
#extension GL_EXT_shader_16bit_storage : require
#endif
#include "core.glsl"

// A box of elements from one strided layout to another.

layout(constant_id = 1) const uint RANK = 1u;
// Whether a workgroup takes a square of 32 by 32: rows run along the source, columns along the result.
layout(constant_id = 2) const bool TRANSPOSE = false;

// Elements of a word: 1, 2 or 4.
layout(constant_id = 3) const uint EACH = 1u;

layout(set = 0, binding = 0) readonly buffer X { uint x[]; };
layout(set = 0, binding = 1) buffer Y { uint y[]; };
#ifdef STORAGE
layout(set = 0, binding = 0) readonly buffer X16 { uint16_t x16[]; };
layout(set = 0, binding = 0) readonly buffer X8 { uint8_t x8[]; };
layout(set = 0, binding = 1) buffer Y16 { uint16_t y16[]; };
layout(set = 0, binding = 1) buffer Y8 { uint8_t y8[]; };
#endif

shared uint square[32 * 33];

uint take(uint i) {
    if (EACH == 1u) { return x[at[0] + i]; }
#ifdef STORAGE
    return EACH == 2u ? uint(x16[2u * at[0] + i]) : uint(x8[4u * at[0] + i]);
#else
    return x[at[0] + i / EACH] >> (i % EACH * (32u / EACH));
#endif
}

// What shares a word with others' elements is put there bit by bit: in whatever order, all are there.
void put(uint i, uint value) {
    if (EACH == 1u) {
        y[at[1] + i] = value;
        return;
    }
#ifdef STORAGE
    if (EACH == 2u) { y16[2u * at[1] + i] = uint16_t(value); } else { y8[4u * at[1] + i] = uint8_t(value); }
#else
    uint shift = i % EACH * (32u / EACH), ones = (~0u >> (32u - 32u / EACH)) << shift;
    atomicAnd(y[at[1] + i / EACH], ~ones);
    atomicOr(y[at[1] + i / EACH], (value << shift) & ones);
#endif
}

// p: first element of either side, elements, then for each dimension, the innermost first, its size
// and the strides of either side. In a transpose the first two dimensions are columns and rows.
void main() {
    uint from = p[0], to = p[1];
    if (TRANSPOSE) {
        uint rest = gl_WorkGroupID.z;
        for (uint d = 2u; d < RANK; d++) {
            uint size = p[3u + 3u * d];
            from += rest % size * p[4u + 3u * d];
            to += rest % size * p[5u + 3u * d];
            rest /= size;
        }
        uint column = gl_WorkGroupID.x * 32u, row = gl_WorkGroupID.y * 32u;
        uint quick = LANE % 32u;
        for (uint slow = LANE / 32u; slow < 32u; slow += 8u) {
            if (row + quick < p[6] && column + slow < p[3]) {
                square[slow * 33u + quick] = take(from + (row + quick) * p[7] + (column + slow) * p[4]);
            }
        }
        barrier();
        for (uint slow = LANE / 32u; slow < 32u; slow += 8u) {
            if (row + slow < p[6] && column + quick < p[3]) {
                put(to + (row + slow) * p[8] + (column + quick) * p[5], square[quick * 33u + slow]);
            }
        }
        return;
    }
    uint first = group_number() * 4u * LANES + LANE;
    for (uint turn = 0u; turn < 4u; turn++) {
        uint i = first + turn * LANES, source = from, target = to;
        if (i >= p[2]) { return; }
        for (uint d = 0u; d < RANK; d++) {
            uint size = p[3u + 3u * d];
            source += i % size * p[4u + 3u * d];
            target += i % size * p[5u + 3u * d];
            i /= size;
        }
        put(target, take(source));
    }
}
