// coded_matmul: the weight's values are made from their few bits where the product needs them (decoded.h).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/coded.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/vec-inl.h"

#include "kernels/coded.h"
#include "kernels/cpu/decoded.h"
#include "ops/attrs_coded.h"

HWY_BEFORE_NAMESPACE();
namespace ds::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kGroup = 32;  // elements that are decoded at once

#if HWY_TARGET <= HWY_AVX2
// The value of each lane's code: a table of 16 is one register of AVX-512, two of AVX2.
HWY_INLINE V values_of(VI code) {
#if HWY_TARGET <= HWY_AVX3
    return hn::TableLookupLanes(hn::LoadU(d, kNormalFloat), hn::IndicesFromVec(d, code));
#else
    const VI within = hn::And(code, hn::Set(di, 7));
    const V low = hn::TableLookupLanes(hn::LoadU(d, kNormalFloat), hn::IndicesFromVec(d, within)),
            high = hn::TableLookupLanes(hn::LoadU(d, kNormalFloat + 8), hn::IndicesFromVec(d, within));
    return hn::IfThenElse(hn::RebindMask(d, hn::Gt(code, hn::Set(di, 7))), high, low);
#endif
}

HWY_INLINE void decode_group(const uint8_t* codes, float scale, float* to) {
    const hn::Full128<uint8_t> d8;
    const auto bytes = hn::LoadU(d8, codes), high = hn::ShiftRight<4>(bytes), low = hn::And(bytes, hn::Set(d8, 15));
    HWY_ALIGN uint8_t each[kGroup];
    hn::Store(hn::InterleaveLower(d8, high, low), d8, each);
    hn::Store(hn::InterleaveUpper(d8, high, low), d8, each + 16);
    const V by = hn::Set(d, scale);
    for (int64_t i = 0; i < kGroup; i += lanes())
        hn::StoreU(hn::Mul(values_of(hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, D>(), each + i))), by), d, to + i);
}
#else
void decode_group(const uint8_t* codes, float scale, float* to) {
    for (int64_t i = 0; i < kGroup; i += 2)
        to[i] = kNormalFloat[codes[i / 2] >> 4] * scale, to[i + 1] = kNormalFloat[codes[i / 2] & 15] * scale;
}
#endif

}  // namespace

// n elements from element i on, all of one block.
void decode_4(const uint8_t* codes, int64_t i, int64_t n, float scale, float* to) {
    const int64_t end = i + n;
    for (; i < end && i % 2; ++i) *to++ = kNormalFloat[codes[i / 2] & 15] * scale;
    for (; i + kGroup <= end; i += kGroup, to += kGroup) decode_group(codes + i / 2, scale, to);
    for (; i < end; ++i) *to++ = kNormalFloat[i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4] * scale;
}

void decode_8(const uint8_t* codes, int64_t i, int64_t n, float scale, float* to) {
    const auto* from = reinterpret_cast<const int8_t*>(codes) + i;
    const float step = scale / 127;
    const V by = hn::Set(d, step);
    int64_t at = 0;
    for (; at + lanes() <= n; at += lanes())
        hn::StoreU(hn::Mul(hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(hn::Rebind<int8_t, D>(), from + at))), by), d, to + at);
    for (; at < n; ++at) to[at] = static_cast<float>(from[at]) * step;
}

// Of one group: (code - zero) * scale.
void decode_group_4(const uint8_t* codes, int64_t i, int64_t n, float scale, float zero, float* to) {
    const int64_t end = i + n;
    for (; i < end && i % 2; ++i) *to++ = (static_cast<float>(codes[i / 2] >> 4) - zero) * scale;
#if HWY_TARGET <= HWY_AVX2
    const V by = hn::Set(d, scale), less = hn::Set(d, zero);
    const hn::Full128<uint8_t> d8;
    HWY_ALIGN uint8_t each[kGroup];
    for (; i + kGroup <= end; i += kGroup, to += kGroup) {
        const auto bytes = hn::LoadU(d8, codes + i / 2), high = hn::ShiftRight<4>(bytes), low = hn::And(bytes, hn::Set(d8, 15));
        hn::Store(hn::InterleaveLower(d8, low, high), d8, each);
        hn::Store(hn::InterleaveUpper(d8, low, high), d8, each + 16);
        for (int64_t k = 0; k < kGroup; k += lanes())
            hn::StoreU(hn::Mul(hn::Sub(hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, D>(), each + k))), less), by), d,
                       to + k);
    }
#endif
    for (; i < end; ++i) *to++ = (static_cast<float>(i % 2 ? codes[i / 2] >> 4 : codes[i / 2] & 15) - zero) * scale;
}

void decode_group_8(const uint8_t* codes, int64_t i, int64_t n, float scale, float zero, float* to) {
    const V by = hn::Set(d, scale), less = hn::Set(d, zero);
    int64_t at = 0;
    for (; at + lanes() <= n; at += lanes())
        hn::StoreU(hn::Mul(hn::Sub(hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, D>(), codes + i + at))), less), by), d,
                   to + at);
    for (; at < n; ++at) to[at] = (static_cast<float>(codes[i + at]) - zero) * scale;
}

}  // namespace HWY_NAMESPACE
}  // namespace ds::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace ds::cpu {
namespace {
HWY_EXPORT(decode_4);
HWY_EXPORT(decode_8);
HWY_EXPORT(decode_group_4);
HWY_EXPORT(decode_group_8);

// A weight of the product, whichever way it is coded.
class Decoder {
public:
    Decoder(const void* at, const CodedMatmul& m)
        : m_(m),
          blocks_(at, m.rows * m.columns, m.code()),
          parts_(m.rows, m.columns, m.code()),
          groups_(at, parts_, m.code()),
          by_block_(m.bits == 4 ? HWY_DYNAMIC_DISPATCH(decode_4) : HWY_DYNAMIC_DISPATCH(decode_8)),
          by_group_(m.bits == 4 ? HWY_DYNAMIC_DISPATCH(decode_group_4) : HWY_DYNAMIC_DISPATCH(decode_group_8)) {}

    // Elements [begin, begin + n) as `type`.
    void run(int64_t begin, int64_t n, DType type, std::byte* to) const {
        alignas(64) float buffer[kBlock];
        for (int64_t done = 0; done < n;) {
            const int64_t part = std::min(n - done, kBlock);
            float* at = type == DType::f32 ? reinterpret_cast<float*>(to) + done : buffer;
            for (int64_t i = begin + done, end = i + part; i < end;) {
                const int64_t size = m_.group ? m_.group : kCodeBlock, here = std::min((i / size + 1) * size, end) - i;
                one_scale(i, here, at);
                i += here, at += here;
            }
            if (type != DType::f32) from_f32(buffer, part, type, to + done * float_size(type));
            done += part;
        }
    }

private:
    void one_scale(int64_t i, int64_t n, float* to) const {
        if (!m_.group) return by_block_(blocks_.codes(), i, n, blocks_.scale(i / kCodeBlock), to);
        const int64_t out = i / m_.columns, in = i % m_.columns, group = in / m_.group;
        by_group_(groups_.row(out), in, n, groups_.scale(out, group), groups_.zero(out, group), to);
    }

    const CodedMatmul& m_;
    CodedWeight blocks_;
    GroupParts parts_;
    GroupWeight groups_;
    void (*by_block_)(const uint8_t*, int64_t, int64_t, float, float*);
    void (*by_group_)(const uint8_t*, int64_t, int64_t, float, float, float*);
};

void multiply(const Call& call, Team team) {
    const auto& attrs = call.attr<CodedMatmul>();
    const Decoder weight(call.in[1].data, attrs);
    static_cast<const DecodedProduct*>(call.state)->run(call, team, [&](int64_t row, int64_t column, int64_t n, DType type, std::byte* to) {
        weight.run(row * attrs.columns + column, n, type, to);
    });
}

Result<Prepared> prepare(const Request& request) {
    auto product = std::make_shared<DecodedProduct>(request, request.attr<CodedMatmul>().transpose);
    const int64_t scratch = product->scratch_bytes();
    return Prepared{{multiply}, std::move(product), scratch};
}

constexpr KernelImpl kCoded[] = {{"decoded", declines_product, prepare}};

}  // namespace

extern const KernelList coded_matmul = kCoded;

}  // namespace ds::cpu
#endif
