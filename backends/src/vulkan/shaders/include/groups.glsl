// Sums and maxima over lanes, by a fixed tree: lanes whose numbers differ in bit 0 are joined, then
// those that differ in bit 1, and so on. The same bits at every run, and through subgroups of any size
// as through shared memory.

// Levels of the tree, one behind the other.
shared float lanes_of[512];

float joined(float a, float b, bool is_max) {
    // Never fused with what made a or b.
    precise float sum = a + b;
    return is_max ? max(a, b) : sum;
}

// What every `n` neighbouring lanes have in x, joined, for all of them; n is a power of two.
float join(float x, uint n, bool is_max) {
    if (n == 1u) { return x; }
    barrier();
    uint from = 0u, count = LANES;
#ifdef SUBGROUPS
    if (WHOLE) {
        // Of the values that are left of each n lanes, lane i of them has number i % left.
        for (uint left = n;; from += count) {
            uint within = min(left, gl_SubgroupSize);
            for (uint bit = 1u; bit < within; bit *= 2u) {
                x = joined(x, subgroupShuffleXor(x, bit), is_max);
            }
            if (within == left) { return x; }
            if (LANE % n < left && gl_SubgroupInvocationID == 0u) {
                lanes_of[from + (LANE / n * left + LANE % n) / within] = x;
            }
            left /= within;
            count /= within;
            barrier();
            x = lanes_of[from + LANE / n * left + LANE % left];
        }
    }
#endif
    lanes_of[LANE] = x;
    for (uint left = n; left > 1u; left /= 2u) {
        barrier();
        uint pair = from + 2u * LANE;
        from += count;
        count /= 2u;
        if (LANE < count) { lanes_of[from + LANE] = joined(lanes_of[pair], lanes_of[pair + 1u], is_max); }
    }
    barrier();
    return lanes_of[from + LANE / n];
}

float group_sum(float x) { return join(x, LANES, false); }

float group_max(float x) { return join(x, LANES, true); }
