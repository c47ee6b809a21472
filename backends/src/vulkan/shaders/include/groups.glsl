// Sums and maxima over a workgroup, by a fixed tree: the same bits at every run.

shared float lanes_of[256];

float group_sum(float x) {
    barrier();
    lanes_of[LANE] = x;
    for (uint half_width = LANES / 2u; half_width > 0u; half_width /= 2u) {
        barrier();
        if (LANE < half_width) { lanes_of[LANE] += lanes_of[LANE + half_width]; }
    }
    barrier();
    return lanes_of[0];
}

float group_max(float x) {
    barrier();
    lanes_of[LANE] = x;
    for (uint half_width = LANES / 2u; half_width > 0u; half_width /= 2u) {
        barrier();
        if (LANE < half_width) { lanes_of[LANE] = max(lanes_of[LANE], lanes_of[LANE + half_width]); }
    }
    barrier();
    return lanes_of[0];
}
