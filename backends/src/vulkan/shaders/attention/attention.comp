#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "core.glsl"
#include "math.glsl"
#include "groups.glsl"

// Attention by tiles of 32 queries and 32 keys; scores never leave shared memory. FORWARD keeps a
// running maximum and sum; DELTA, QUERIES and KEYS are the backward pass, which computes the scores
// again: the sums of dout times out, then dq by blocks of queries, dk and dv by blocks of keys.
// A workgroup owns what it writes and sums in one fixed order.

// Bits: 1 causal, 2 window, 4 mask.
layout(constant_id = 1) const uint FLAGS = 0u;
// Width of a head in groups of 32, rounded up.
layout(constant_id = 2) const uint CHUNKS = 2u;

layout(set = 0, binding = 0) readonly buffer Q { float q[]; };
layout(set = 0, binding = 1) readonly buffer K { float k[]; };
layout(set = 0, binding = 2) readonly buffer V { float v[]; };
layout(set = 0, binding = 3) readonly buffer Mask { float mask[]; };
#if defined(FORWARD)
layout(set = 0, binding = 4) writeonly buffer Out { float result[]; };
layout(set = 0, binding = 5) writeonly buffer Lse { float lse[]; };
#define RESULT at[4]
#else
layout(set = 0, binding = 4) readonly buffer Dout { float dout[]; };
// Of each head and query: its log-sum-exp and the sum of dout times out.
layout(set = 0, binding = 5) readonly buffer Rows { float rows[]; };
layout(set = 0, binding = 6) writeonly buffer First { float result[]; };
#define RESULT at[6]
#ifdef KEYS
layout(set = 0, binding = 7) writeonly buffer Second { float second[]; };
#endif
#endif

#define QUERIES_OF p[0]
#define KEYS_OF p[1]
#define HEADS p[2]
#define KV_HEADS p[3]
#define DIM p[4]
#define SCALE uintBitsToFloat(p[5])
#define WINDOW p[6]
#define MASK_BATCH p[7]
#define MASK_HEAD p[8]
#define MASK_QUERY p[9]

const uint TILE = 32u;
const uint STRIDE = 33u;

shared float left[TILE * STRIDE];
shared float right[TILE * STRIDE];
shared float tile[TILE * STRIDE];

// This workgroup's sequence, and the head at work.
uint batch, head, kv_head;

uint query_at(uint i) { return ((batch * QUERIES_OF + i) * HEADS + head) * DIM; }
uint key_at(uint j) { return ((batch * KEYS_OF + j) * KV_HEADS + kv_head) * DIM; }

// Whether query i sees key j, and what the mask adds.
bool sees(uint i, uint j, out float added) {
    added = 0.0;
    if (i >= QUERIES_OF || j >= KEYS_OF) { return false; }
    int distance = int(i + KEYS_OF) - int(QUERIES_OF + j);
    if ((FLAGS & 1u) != 0u && distance < 0) { return false; }
    if ((FLAGS & 2u) != 0u && uint(abs(distance)) >= WINDOW) { return false; }
    if ((FLAGS & 4u) != 0u) {
        added = mask[at[3] + batch * MASK_BATCH + head * MASK_HEAD + i * MASK_QUERY + j];
        // -inf, and what is far below any score, hides.
        if (added < -1e20) { return false; }
    }
    return true;
}

// The keys that queries from `first` on, a tile of them, may see: whole tiles.
void key_range(uint first, out uint low, out uint high) {
    low = 0u;
    high = KEYS_OF;
    int last = int(first + TILE) + int(KEYS_OF) - int(QUERIES_OF);
    int begin = int(first) + int(KEYS_OF) - int(QUERIES_OF);
    if ((FLAGS & 2u) != 0u) {
        low = uint(max(0, begin - int(WINDOW) + 1));
        high = uint(clamp(last + int(WINDOW), 0, int(KEYS_OF)));
    }
    if ((FLAGS & 1u) != 0u) { high = min(high, uint(max(last, 0))); }
    low = low / TILE * TILE;
}

#define LOAD(to, from, offset, base, count, chunk) \
    for (uint t = LANE; t < TILE * TILE; t += LANES) { \
        uint r = t / TILE, d = (chunk) * TILE + t % TILE; \
        float value = 0.0; \
        if ((base) + r < (count) && d < DIM) { value = from[offset + d]; } \
        to[r * STRIDE + t % TILE] = value; \
    }

// Two by two products of rows ty and ty + 16 of `left` with rows tx and tx + 16 of `right`.
vec4 products(vec4 sums) {
    uint tx = LANE % 16u, ty = LANE / 16u;
    [[dont_unroll]] for (uint d = 0u; d < TILE; d++) {
        float a = left[ty * STRIDE + d], b = left[(ty + 16u) * STRIDE + d];
        float c = right[tx * STRIDE + d], e = right[(tx + 16u) * STRIDE + d];
        sums += vec4(a * c, a * e, b * c, b * e);
    }
    return sums;
}

// Scores of queries from `i` on and keys from `j` on, before scale and mask.
vec4 scores(uint i, uint j) {
    vec4 sums = vec4(0.0);
    for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
        LOAD(left, q, at[0] + query_at(i + r), i, QUERIES_OF, chunk)
        LOAD(right, k, at[1] + key_at(j + r), j, KEYS_OF, chunk)
        barrier();
        sums = products(sums);
        barrier();
    }
    return sums;
}

void put(vec4 s) {
    uint tx = LANE % 16u, ty = LANE / 16u;
    tile[ty * STRIDE + tx] = s.x;
    tile[ty * STRIDE + tx + 16u] = s.y;
    tile[(ty + 16u) * STRIDE + tx] = s.z;
    tile[(ty + 16u) * STRIDE + tx + 16u] = s.w;
}

// The query and key of element `e` of an invocation's two by two.
uint row_of(uint e) { return LANE / 16u + (e / 2u) * 16u; }
uint column_of(uint e) { return LANE % 16u + (e % 2u) * 16u; }

// Adds the tile times `rows` to row LANE / 8, columns LANE % 8 and every 8 on; unrolled they took lavapipe 10 s to compile.
#define ADD_ROWS(sums, rows, place) { \
    vec4 part = vec4(0.0); \
    [[dont_unroll]] for (uint n = 0u; n < TILE; n++) { \
        uint of = n * STRIDE + eighth; \
        part += tile[place] * vec4(rows[of], rows[of + 8u], rows[of + 16u], rows[of + 24u]); \
    } \
    sums[chunk] += part; }


#if defined(FORWARD)

float joined_four(vec4 x, bool is_max) { return joined(joined(x.x, x.y, is_max), joined(x.z, x.w, is_max), is_max); }

// Four of a row of the tile: column `eighth` and every eighth after it.
vec4 four_of(uint row, uint eighth) {
    uint of = row * STRIDE + eighth;
    return vec4(tile[of], tile[of + 8u], tile[of + 16u], tile[of + 24u]);
}

// A row of the tile joined, by one tree: eight lanes of a subgroup share it, of which each has its `own` four.
float row_joined(uint row, vec4 own, bool is_max) {
#ifdef SUBGROUPS
    if (WHOLE && gl_SubgroupSize >= 8u) {
        float x = joined_four(own, is_max);
        for (uint bit = 1u; bit < 8u; bit *= 2u) { x = joined(x, subgroupShuffleXor(x, bit), is_max); }
        return x;
    }
#endif
    float x[8];
    [[dont_unroll]] for (uint eighth = 0u; eighth < 8u; eighth++) { x[eighth] = joined_four(four_of(row, eighth), is_max); }
    for (uint bit = 1u; bit < 8u; bit *= 2u) {
        for (uint i = 0u; i < 8u; i += 2u * bit) { x[i] = joined(x[i], x[i + bit], is_max); }
    }
    return x[0];
}

void main() {
    uint first = gl_WorkGroupID.x * TILE;
    head = gl_WorkGroupID.y;
    batch = gl_WorkGroupID.z;
    kv_head = head / (HEADS / KV_HEADS);
    uint row = LANE / 8u, eighth = LANE % 8u;
    vec4 sums[CHUNKS];
    float most = -INFINITY, total = 0.0;
    for (uint n = 0u; n < CHUNKS; n++) { sums[n] = vec4(0.0); }
    uint low, high;
    key_range(first, low, high);
    for (uint j = low; j < high; j += TILE) {
        vec4 s = scores(first, j);
        for (uint e = 0u; e < 4u; e++) {
            float added;
            s[e] = sees(first + row_of(e), j + column_of(e), added) ? fma(s[e], SCALE, added) : -INFINITY;
        }
        put(s);
        barrier();
        vec4 own = four_of(row, eighth);
        float top = max(most, row_joined(row, own, true));
        barrier();
        for (uint n = 0u; n < 4u; n++) {
            own[n] = top == -INFINITY ? 0.0 : exp_weight(own[n] - top);
            tile[row * STRIDE + eighth + 8u * n] = own[n];
        }
        float factor = most == -INFINITY ? 0.0 : exp_weight(most - top);
        most = top;
        barrier();
        total = fma(total, factor, row_joined(row, own, false));
        for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
            LOAD(right, v, at[2] + key_at(j + r), j, KEYS_OF, chunk)
            barrier();
            sums[chunk] *= factor;
            ADD_ROWS(sums, right, row * STRIDE + n)
            barrier();
        }
    }
    uint i = first + row;
    if (i >= QUERIES_OF) { return; }
    float scale = total > 0.0 ? 1.0 / total : 0.0;
    for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
        for (uint n = 0u; n < 4u; n++) {
            uint d = chunk * TILE + eighth + 8u * n;
            if (d < DIM) { result[RESULT + query_at(i) + d] = sums[chunk][n] * scale; }
        }
    }
    if (eighth == 0u) {
        lse[at[5] + (batch * HEADS + head) * QUERIES_OF + i] = total > 0.0 ? most + log_exact(total) : -INFINITY;
    }
}

#else

// Weights of queries from `i` and keys from `j` on, from scores.
vec4 weights(vec4 s, uint i, uint j) {
    for (uint e = 0u; e < 4u; e++) {
        float added;
        uint row = i + row_of(e);
        if (sees(row, j + column_of(e), added)) {
            float sum = rows[at[5] + ((batch * HEADS + head) * QUERIES_OF + row) * 2u];
            s[e] = exp_exact(fma(s[e], SCALE, added) - sum);
        } else {
            s[e] = 0.0;
        }
    }
    return s;
}

// What the scores' gradients are, from weights and the products of dout and v.
vec4 slopes(vec4 w, vec4 s, uint i) {
    for (uint e = 0u; e < 4u; e++) {
        uint row = i + row_of(e);
        float delta = row < QUERIES_OF ? rows[at[5] + ((batch * HEADS + head) * QUERIES_OF + row) * 2u + 1u] : 0.0;
        s[e] = w[e] * (s[e] - delta) * SCALE;
    }
    return s;
}

// Products of rows of dout and v.
vec4 value_products(uint i, uint j) {
    vec4 sums = vec4(0.0);
    for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
        LOAD(left, dout, at[4] + query_at(i + r), i, QUERIES_OF, chunk)
        LOAD(right, v, at[2] + key_at(j + r), j, KEYS_OF, chunk)
        barrier();
        sums = products(sums);
        barrier();
    }
    return sums;
}

#ifdef QUERIES

void main() {
    uint first = gl_WorkGroupID.x * TILE;
    head = gl_WorkGroupID.y;
    batch = gl_WorkGroupID.z;
    kv_head = head / (HEADS / KV_HEADS);
    uint row = LANE / 8u, eighth = LANE % 8u;
    vec4 sums[CHUNKS];
    for (uint n = 0u; n < CHUNKS; n++) { sums[n] = vec4(0.0); }
    uint low, high;
    key_range(first, low, high);
    for (uint j = low; j < high; j += TILE) {
        vec4 w = weights(scores(first, j), first, j);
        put(slopes(w, value_products(first, j), first));
        barrier();
        for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
            LOAD(right, k, at[1] + key_at(j + r), j, KEYS_OF, chunk)
            barrier();
            ADD_ROWS(sums, right, row * STRIDE + n)
            barrier();
        }
    }
    if (first + row >= QUERIES_OF) { return; }
    for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
        for (uint n = 0u; n < 4u; n++) {
            uint d = chunk * TILE + eighth + 8u * n;
            if (d < DIM) { result[RESULT + query_at(first + row) + d] = sums[chunk][n]; }
        }
    }
}

#else

void main() {
    uint first = gl_WorkGroupID.x * TILE;
    kv_head = gl_WorkGroupID.y;
    batch = gl_WorkGroupID.z;
    uint row = LANE / 8u, eighth = LANE % 8u, group = HEADS / KV_HEADS;
    vec4 of_keys[CHUNKS], of_values[CHUNKS];
    for (uint n = 0u; n < CHUNKS; n++) {
        of_keys[n] = vec4(0.0);
        of_values[n] = vec4(0.0);
    }
    for (uint member = 0u; member < group; member++) {
        head = kv_head * group + member;
        for (uint i = 0u; i < QUERIES_OF; i += TILE) {
            uint low, high;
            key_range(i, low, high);
            if (first + TILE <= low || first >= high) { continue; }
            vec4 w = weights(scores(i, first), i, first);
            vec4 s = slopes(w, value_products(i, first), i);
            put(w);
            barrier();
            for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
                LOAD(left, dout, at[4] + query_at(i + r), i, QUERIES_OF, chunk)
                barrier();
                ADD_ROWS(of_values, left, n * STRIDE + row)
                barrier();
            }
            put(s);
            barrier();
            for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
                LOAD(left, q, at[0] + query_at(i + r), i, QUERIES_OF, chunk)
                barrier();
                ADD_ROWS(of_keys, left, n * STRIDE + row)
                barrier();
            }
        }
    }
    if (first + row >= KEYS_OF) { return; }
    for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
        for (uint n = 0u; n < 4u; n++) {
            uint d = chunk * TILE + eighth + 8u * n;
            if (d < DIM) {
                result[RESULT + key_at(first + row) + d] = of_keys[chunk][n];
                second[at[7] + key_at(first + row) + d] = of_values[chunk][n];
            }
        }
    }
}

#endif
#endif
