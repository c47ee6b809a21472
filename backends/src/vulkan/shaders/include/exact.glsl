// Division and square root as IEEE 754 rounds them: a device's own may be off by some units in the
// last place.

// The product in two parts (Dekker 1971).
void exact_product(float a, float b, out float high, out float low) {
    precise float ah = uintBitsToFloat(floatBitsToUint(a) & 0xfffff000u), al = a - ah;
    precise float bh = uintBitsToFloat(floatBitsToUint(b) & 0xfffff000u), bl = b - bh;
    precise float h = a * b;
    precise float rest = ah * bh - h;
    rest = rest + ah * bl;
    rest = rest + al * bh;
    rest = rest + al * bl;
    high = h;
    low = rest;
}

// The sum in two parts (Knuth).
void exact_sum(float a, float b, out float high, out float low) {
    precise float sum = a + b;
    precise float part = sum - a;
    precise float rest = (a - (sum - part)) + (b - part);
    high = sum;
    low = rest;
}

// Whether what a correction computes with neither over- nor underflows.
bool ordinary(float x) { return abs(x) > 1e-28 && abs(x) < 1e28; }

float exact_div(float a, float b) {
    precise float q = a / b;
    if (ordinary(a) && ordinary(b) && ordinary(q)) {
        float high, low;
        exact_product(q, b, high, low);
        precise float rest = (a - high) - low;
        q = q + rest / b;
    }
    return q;
}

float exact_sqrt(float x) {
    precise float y = sqrt(x);
    if (ordinary(x)) {
        float high, low;
        exact_product(y, y, high, low);
        precise float rest = (x - high) - low;
        y = y + rest * (0.5 / y);
    }
    return y;
}

// The nearest integer, ties to even; exact for every float.
float round_even(float x) {
    float size = abs(x);
    precise float near = size + 8388608.0;
    near = near - 8388608.0;
    if (!(size < 8388608.0)) { return x; }
    return uintBitsToFloat(floatBitsToUint(near) | (floatBitsToUint(x) & 0x80000000u));
}
