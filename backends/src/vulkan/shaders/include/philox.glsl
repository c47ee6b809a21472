// Philox 4x32-10, as in kernels/src/random.rs: the same numbers from the same seed and position.

// A block of four words.
uvec4 philox(uvec4 counter, uvec2 key) {
    for (uint round = 0u; round < 10u; round++) {
        uint high_a, low_a, high_b, low_b;
        umulExtended(counter.x, 0xd2511f53u, high_a, low_a);
        umulExtended(counter.z, 0xcd9e8d57u, high_b, low_b);
        counter = uvec4(high_b ^ counter.y ^ key.x, low_b, high_a ^ counter.w ^ key.y, low_a);
        key += uvec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter;
}

// A word as uniform in [0, 1).
float unit(uint word) { return float(word >> 8) * (1.0 / 16777216.0); }
