// Elements of the weight formats, four at a time. Layouts are drawn in kernels/src/quant.
//
// Before: a function `word_at(i)`, word i of the matrix, and `FORMAT`, a format's place in `Format::ALL`.

// Two or four bytes at an even address.
uint load16(uint byte) { return (word_at(byte >> 2) >> ((byte & 2u) * 8u)) & 0xffffu; }
uint load32(uint byte) {
    uint w = word_at(byte >> 2);
    return (byte & 2u) == 0u ? w : (w >> 16) | (word_at((byte >> 2) + 1u) << 16);
}

vec4 bytes(uint q) { return vec4(q & 255u, (q >> 8) & 255u, (q >> 16) & 255u, q >> 24); }
vec4 signed_bytes(uint q) {
    int s = int(q);
    return vec4(bitfieldExtract(s, 0, 8), bitfieldExtract(s, 8, 8), bitfieldExtract(s, 16, 8), s >> 24);
}

// Bits 0 to 3 as bit 4 of bytes 0 to 3.
uint fifth_bits(uint b) { return ((b & 1u) << 4) | ((b & 2u) << 11) | ((b & 4u) << 18) | ((b & 8u) << 25); }

// Scale and minimum of group j of the Q4_K block at `byte`.
uvec2 q4_k_steps(uint byte, uint j) {
    uvec2 packed = uvec2(load32(byte + 4u), load32(byte + 8u)) >> ((j & 3u) * 8u);
    if (j < 4u) { return packed & 63u; }
    uint low = (load32(byte + 12u) >> ((j & 3u) * 8u)) & 255u;
    return uvec2(low & 15u, low >> 4) | ((packed & 0xc0u) >> 2);
}

// Element i of a float format, counted from the matrix's start.
float float_element(uint i) {
    if (FORMAT == 0u) { return uintBitsToFloat(word_at(i)); }
    uint h = (word_at(i >> 1) >> ((i & 1u) * 16u)) & 0xffffu;
    return FORMAT == 1u ? f16_value(h) : uintBitsToFloat(h << 16);
}

// Elements i to i + 3 of a row of codes that begins at byte `row`; i is a multiple of 4. Every product
// is exact, so only the sum rounds.
vec4 codes_elements(uint row, uint i) {
    uint c = i & 31u, byte, q;
    switch (FORMAT) {
    case 3u:
        byte = row + (i >> 5) * 34u;
        return f16_value(load16(byte)) * signed_bytes(load32(byte + 2u + c));
    case 4u:
        byte = row + (i >> 5) * 18u;
        q = (load32(byte + 2u + (c & 15u)) >> ((c >> 4) * 4u)) & 0x0f0f0f0fu;
        return f16_value(load16(byte)) * (bytes(q) - 8.0);
    case 5u:
        byte = row + (i >> 5) * 20u;
        q = (load32(byte + 4u + (c & 15u)) >> ((c >> 4) * 4u)) & 0x0f0f0f0fu;
        return f16_value(load16(byte)) * bytes(q) + f16_value(load16(byte + 2u));
    case 6u:
        byte = row + (i >> 5) * 22u;
        q = (load32(byte + 6u + (c & 15u)) >> ((c >> 4) * 4u)) & 0x0f0f0f0fu;
        q |= fifth_bits(load32(byte + 2u) >> c);
        return f16_value(load16(byte)) * (bytes(q) - 16.0);
    case 7u:
        byte = row + (i >> 5) * 24u;
        q = (load32(byte + 8u + (c & 15u)) >> ((c >> 4) * 4u)) & 0x0f0f0f0fu;
        q |= fifth_bits(load32(byte + 4u) >> c);
        return f16_value(load16(byte)) * bytes(q) + f16_value(load16(byte + 2u));
    case 8u: {
        byte = row + (i >> 8) * 144u;
        uint j = (i >> 5) & 7u;
        uvec2 steps = q4_k_steps(byte, j);
        q = (load32(byte + 16u + (j >> 1) * 32u + c) >> ((j & 1u) * 4u)) & 0x0f0f0f0fu;
        precise vec4 y = f16_value(load16(byte)) * float(steps.x) * bytes(q);
        y = y - f16_value(load16(byte + 2u)) * float(steps.y);
        return y;
    }
    case 9u: {
        byte = row + (i >> 8) * 210u;
        uint side = (i >> 7) & 1u, k = i & 127u, group = (i >> 4) & 15u;
        q = (load32(byte + side * 64u + (k & 63u)) >> ((k >> 6) * 4u)) & 0x0f0f0f0fu;
        uint high = (load32(byte + 128u + side * 32u + (k & 31u)) >> ((k >> 5) * 2u)) & 0x03030303u;
        uint scales = load16(byte + 192u + (group & 14u)) >> ((group & 1u) * 8u);
        float scale = f16_value(load16(byte + 208u)) * float(bitfieldExtract(int(scales), 0, 8));
        return scale * (bytes(q | (high << 4)) - 32.0);
    }
    }
    return vec4(0.0);
}
