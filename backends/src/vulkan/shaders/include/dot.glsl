// Exact sums of products of four signed bytes, of words that `quad` has made ready.

#ifdef DOT
// OpSDot of words of four bytes: the compiler has no name for it.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int packed_dot(uint a, uint b, spirv_literal int format);
#define QUAD uint
#define quad(w) w
#define dot4(a, b) packed_dot(a, b, 0)
#else
#define QUAD ivec4
ivec4 quad(uint w) {
    int s = int(w);
    return ivec4(bitfieldExtract(s, 0, 8), bitfieldExtract(s, 8, 8), bitfieldExtract(s, 16, 8), s >> 24);
}
int dot4(ivec4 a, ivec4 b) {
    ivec4 y = a * b;
    return y.x + y.y + y.z + y.w;
}
#endif
