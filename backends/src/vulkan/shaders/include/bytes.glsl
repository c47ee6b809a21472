// Operands of products of bytes: where they lie, four steps at a time, and what becomes of a sum.

// Bits: 1 B is stored [n, k], 2 one scale of A, 4 one of B, 8 bias.
layout(constant_id = 1) const uint FLAGS = 0u;

layout(set = 0, binding = 0) readonly buffer A { uint a[]; };
layout(set = 0, binding = 1) readonly buffer B { uint b[]; };
layout(set = 0, binding = 2) readonly buffer ScalesA { float scales_a[]; };
layout(set = 0, binding = 3) readonly buffer ScalesB { float scales_b[]; };
layout(set = 0, binding = 4) readonly buffer Bias { float bias[]; };
layout(set = 0, binding = 5) writeonly buffer C { float result[]; };

#define M p[0]
#define N p[1]
#define K p[2]

// Four bytes from byte i of a matrix on, of which `left` are of the row and the rest are zero.
#define PACKED(matrix, start, i, left, word) \
    word = matrix[start + i / 4u] >> (i % 4u * 8u); \
    if (i % 4u != 0u && i % 4u + left > 4u) { word |= matrix[start + i / 4u + 1u] << (32u - i % 4u * 8u); } \
    if (left < 4u) { word &= (1u << (left * 8u)) - 1u; }

uint word_a(uint row, uint step) {
    if (row >= M || step >= K) { return 0u; }
    uint i = row * K + step, left = K - step, word;
    PACKED(a, at[0], i, left, word)
    return word;
}

uint word_b(uint column, uint step) {
    if (column >= N || step >= K) { return 0u; }
    uint word = 0u;
    if ((FLAGS & 1u) != 0u) {
        uint i = column * K + step, left = K - step;
        PACKED(b, at[1], i, left, word)
        return word;
    }
    for (uint k = 0u; k < min(4u, K - step); k++) {
        uint i = (step + k) * N + column;
        word |= ((b[at[1] + i / 4u] >> (i % 4u * 8u)) & 255u) << (k * 8u);
    }
    return word;
}

// Writes a result, if there is such a one.
void write_result(uint row, uint column, int sum) {
    if (row >= M || column >= N) { return; }
    precise float y = float(sum) * scales_a[at[2] + ((FLAGS & 2u) != 0u ? 0u : row)];
    y = y * scales_b[at[3] + ((FLAGS & 4u) != 0u ? 0u : column)];
    if ((FLAGS & 8u) != 0u) { y = y + bias[at[4] + column]; }
    result[at[5] + row * N + column] = y;
}
