// A product with a weight whose values are made where they are needed: groups of the product's columns are dealt out to the team; the part
// of the weight that a group needs is decoded into a thread's own memory, where the caches hold it, and multiplied from there by gemm.h.
// The weight as a whole is never anywhere but in its codes.
#pragma once

#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/gemm.h"

namespace ds::cpu {

class DecodedProduct {
public:
    // Of a, codes, bias, into -> y. transposed: the weight is decoded as [columns of y, columns of a].
    DecodedProduct(const Request& request, bool transposed) : transposed_(transposed), threads_(request.threads) {
        constexpr int64_t kFewRows = 128, kSmall = 1 << 20, kLarge = 8 << 20;  // of many rows, packing a for each group must not count
        const Tensor &a = request.in[0], &bias = request.in[2], &into = request.in[3], &y = request.out[0];
        m_ = y.rows(), n_ = y.columns(), k_ = a.columns();
        const int64_t size = float_size(a.dtype), most = (m_ <= kFewRows ? kSmall : kLarge) / (k_ * size) / 64 * 64;
        const int64_t fair = round_up((n_ + request.threads - 1) / request.threads, 64);
        width_ = std::min({std::max<int64_t>(most, 64), fair, int64_t{1024}});
        GemmShape g{
            .m = m_,
            .n = width_,
            .k = k_,
            .transpose_b = transposed,
            .a_type = a.dtype,
            .b_type = a.dtype,
            .c_type = y.dtype,
            .lda = a.row_stride,
            .ldb = transposed ? k_ : width_,
            .ldc = y.row_stride,
        };
        if (bias.present) g.bias_type = bias.dtype;
        if (into.present) g.into_type = into.dtype, g.ld_into = into.row_stride;
        gemm_ = Gemm(g);
        decoded_ = round_up(width_ * k_ * size, 64);
        own_ = decoded_ + round_up(gemm_.scratch_bytes(1), 64);
    }

    int64_t scratch_bytes() const { return own_ * threads_; }

    // decode(row, column, n, type, to): n neighbouring values of the weight as it lies, or, where it is transposed, of whole rows.
    template <class F>
    void run(const Call& call, Team team, const F& decode) const {
        std::byte* scratch = call.scratch + team.rank * own_;
        const DType type = call.in[0].dtype;
        const auto place = [](const Tensor& t, int64_t column) -> void* { return t.present ? address(t, 0, column) : nullptr; };
        const int64_t groups = (n_ + width_ - 1) / width_;
        for (int64_t g = call.ticket->fetch_add(1); g < groups; g = call.ticket->fetch_add(1)) {
            const int64_t first = g * width_, columns = std::min(width_, n_ - first);
            if (transposed_) decode(first, 0, columns * k_, type, scratch);
            else
                for (int64_t row = 0; row < k_; ++row) decode(row, first, columns, type, scratch + row * width_ * float_size(type));
            gemm_.region({call.in[0].data, scratch, place(call.out[0], first), place(call.in[2], first), place(call.in[3], first)}, 0, m_,
                         0, columns, scratch + decoded_);
        }
    }

private:
    Gemm gemm_;
    bool transposed_;
    int threads_;
    int64_t m_, n_, k_;
    int64_t width_;          // columns of a group
    int64_t decoded_, own_;  // bytes of a thread: of its part of the weight, of all
};

// Of products of a, codes, bias, into -> y.
inline const char* declines_product(const Request& request) {
    for (const size_t i : {0, 2, 3})
        if (request.in[i].present && !is_simd_float(request.in[i].dtype)) return "an input is not f32, bf16 or f16";
    return is_simd_float(request.out[0].dtype) ? nullptr : "the output is not f32, bf16 or f16";
}

}  // namespace ds::cpu
