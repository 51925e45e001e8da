#include "base/dtype.h"

#include <cmath>
#include <cstring>

namespace ds {
namespace {

struct Row {
    std::string_view name;
    int64_t bytes;
    bool is_float;
};
constexpr Row kRows[kDTypes] = {{"f32", 4, true},  {"f16", 2, true},    {"bf16", 2, true},  {"f64", 8, true},
                                {"i32", 4, false}, {"i64", 8, false},   {"u8", 1, false},   {"bool", 1, false},
                                {"i8", 1, false},  {"f8e4m3", 1, true}, {"f8e5m2", 1, true}};
const Row& row(DType type) { return kRows[static_cast<int>(type)]; }

template <class T>
double load(const void* p, int64_t i) {
    T x;
    std::memcpy(&x, static_cast<const char*>(p) + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return static_cast<double>(x);
}

double load(const void* p, DType type, int64_t i) {
    switch (type) {
    case DType::f32: return load<float>(p, i);
    case DType::f64: return load<double>(p, i);
    case DType::i32: return load<int32_t>(p, i);
    case DType::i64: return load<int64_t>(p, i);
    case DType::i8: return load<int8_t>(p, i);
    case DType::u8:
    case DType::boolean: return load<uint8_t>(p, i);
    case DType::f8e4m3: return f8e4m3_to_f32(static_cast<const uint8_t*>(p)[i]);
    case DType::f8e5m2: return f8e5m2_to_f32(static_cast<const uint8_t*>(p)[i]);
    case DType::f16:
    case DType::bf16: {
        uint16_t bits;
        std::memcpy(&bits, static_cast<const char*>(p) + 2 * i, 2);
        return type == DType::f16 ? to_f32(F16{bits}) : to_f32(BF16{bits});
    }
    }
    return 0;
}

template <class T>
void store(void* p, int64_t i, T x) {
    std::memcpy(static_cast<char*>(p) + i * static_cast<int64_t>(sizeof(T)), &x, sizeof(T));
}

void store(void* p, DType type, int64_t i, double x) {
    switch (type) {
    case DType::f32: return store(p, i, static_cast<float>(x));
    case DType::f64: return store(p, i, x);
    case DType::i32: return store(p, i, static_cast<int32_t>(x));
    case DType::i64: return store(p, i, static_cast<int64_t>(x));
    case DType::i8: return store(p, i, static_cast<int8_t>(x));
    case DType::u8: return store(p, i, static_cast<uint8_t>(x));
    case DType::boolean: return store(p, i, static_cast<uint8_t>(x != 0));
    case DType::f16: return store(p, i, to_f16(static_cast<float>(x)).bits);
    case DType::bf16: return store(p, i, to_bf16(static_cast<float>(x)).bits);
    case DType::f8e4m3:
    case DType::f8e5m2: return;  // nothing writes f8 on the CPU
    }
}

float f8(uint8_t x, int exponent_bits, int bias, bool has_infinity) {
    const int mantissa_bits = 7 - exponent_bits;
    const int exponent = (x & 0x7f) >> mantissa_bits, mantissa = x & ((1 << mantissa_bits) - 1);
    const int top = (1 << exponent_bits) - 1;
    float value;
    if (exponent == top && has_infinity) value = mantissa ? NAN : INFINITY;
    else if (exponent == top && mantissa == (1 << mantissa_bits) - 1) value = NAN;
    else if (exponent == 0) value = std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits);
    else value = std::ldexp(static_cast<float>(mantissa + (1 << mantissa_bits)), exponent - bias - mantissa_bits);
    return x & 0x80 ? -value : value;
}

// Neither side need be aligned: tensors in files are not.
template <class From, class To, class F>
void each(const void* src, void* dst, int64_t n, const F& f) {
    for (int64_t i = 0; i < n; ++i) {
        From x;
        std::memcpy(&x, static_cast<const char*>(src) + i * static_cast<int64_t>(sizeof(From)), sizeof(From));
        const To y = f(x);
        std::memcpy(static_cast<char*>(dst) + i * static_cast<int64_t>(sizeof(To)), &y, sizeof(To));
    }
}

}  // namespace

int64_t size_of(DType type) { return row(type).bytes; }
std::string_view name_of(DType type) { return row(type).name; }
bool is_float(DType type) { return row(type).is_float; }

std::optional<DType> dtype_named(std::string_view name) {
    for (int i = 0; i < kDTypes; ++i)
        if (kRows[i].name == name) return static_cast<DType>(i);
    return std::nullopt;
}

float to_f32(F16 h) {
    const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16, magnitude = h.bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    // Scaling by 2^112 moves the exponent's bias and turns subnormals into normal numbers.
    const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

F16 to_f16(float x) {
    const uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
    if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and more round to infinity
    if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves the rounded result in the low bits
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u))};
    }
    const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u;
    return {static_cast<uint16_t>(sign | (rounded >> 13))};
}

float f8e4m3_to_f32(uint8_t x) { return f8(x, 4, 7, false); }
float f8e5m2_to_f32(uint8_t x) { return f8(x, 5, 15, true); }

void convert(const void* src, DType src_type, void* dst, DType dst_type, int64_t n) {
    if (src_type == dst_type) {
        if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n * size_of(src_type)));
        return;
    }
    if (src_type == DType::i64 && dst_type == DType::i32) {  // exact where it fits; the f64 path would be too, but ids are hot
        for (int64_t i = 0; i < n; ++i) {
            int64_t x;
            std::memcpy(&x, static_cast<const char*>(src) + 8 * i, 8);
            store(dst, i, static_cast<int32_t>(x));
        }
        return;
    }
    // Weights come in these.
    if (src_type == DType::f32 && dst_type == DType::bf16) return each<float, BF16>(src, dst, n, [](float x) { return to_bf16(x); });
    if (src_type == DType::bf16 && dst_type == DType::f32) return each<BF16, float>(src, dst, n, [](BF16 x) { return to_f32(x); });
    if (src_type == DType::f32 && dst_type == DType::f16) return each<float, F16>(src, dst, n, [](float x) { return to_f16(x); });
    if (src_type == DType::f16 && dst_type == DType::f32) return each<F16, float>(src, dst, n, [](F16 x) { return to_f32(x); });
    for (int64_t i = 0; i < n; ++i) store(dst, dst_type, i, load(src, src_type, i));
}

}  // namespace ds
