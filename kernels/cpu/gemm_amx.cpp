// gemm.h's product by AMX, where both operands are bf16. A block of a is packed ahead; each group of columns of b is packed while the one
// before is multiplied (amx.h), so that packing weights costs hardly any time of its own. Sums are cut along k by sizes alone.
#include <algorithm>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/gemm.h"

namespace ds::cpu {
namespace {

constexpr int64_t kBlockOfA = 800 * 1024;    // elements: most of the second cache
constexpr int64_t kMostInA = 4096;           // of k
constexpr int64_t kMostInB = 512;            // of k: a panel of b stays in the first cache
constexpr int64_t kLargeGradient = 1 << 18;  // elements

int64_t even_part(int64_t n, int64_t most) {
    const int64_t parts = (n + most - 1) / most;
    return parts ? (n + parts - 1) / parts : 1;
}
const std::byte* place(const void* p, DType type, int64_t index) { return static_cast<const std::byte*>(p) + index * float_size(type); }
std::byte* place(void* p, DType type, int64_t index) { return static_cast<std::byte*>(p) + index * float_size(type); }

// How a region is cut, and where its blocks lie in scratch (bytes).
struct Blocks {
    int64_t kb, kc, mb;  // of k in a block of a, of k in a group of b, rows of a block of a
    int64_t group;       // columns of b that are packed together: whole lines of c and of b's rows, and more where no sums wait for them
    int64_t group_b, bias, sums, sums_stride, total;  // the packed block of a lies first, then two groups of b

    Blocks(int64_t k, int64_t rows, int64_t columns) {
        kb = round_up(even_part(std::max<int64_t>(k, 1), kMostInA), amx::kStep);
        kc = round_up(even_part(kb, kMostInB), amx::kStep);
        group = k > kc ? 128 : 256;
        mb = round_up(even_part(rows, std::max(kBlockOfA / kb / amx::kPanel, int64_t{1}) * amx::kPanel), amx::kPanel);
        place(k, mb, columns);
    }
    void place(int64_t k, int64_t rows, int64_t columns) {
        group_b = 2 * rows * kb;
        bias = group_b + 4 * group * kc;
        sums = bias + 4 * group;
        // Sums wait for later blocks of k: of all columns, or of this group's when a's block holds all of k; one block of 32 x 32 where b's
        // group does too.
        sums_stride = k > kb ? round_up(columns, amx::kPanel) + 16 : k > kc ? group : amx::kPanel;
        total = sums + 4 * sums_stride * (k > kc ? rows : amx::kPanel);
    }
};

class Region {
public:
    Region(const GemmShape& shape, const GemmArgs& args, Gemm::Rectangle r, std::byte* scratch)
        : shape_(shape), args_(args), r_(r), b_(shape.k, r.m1 - r.m0, r.n1 - r.n0), streams_(is_large_gradient()), scratch_(scratch) {}

    void run() {
        const TileUse use(tiles_);
        for (int64_t row = r_.m0; row < r_.m1; row += b_.mb)
            for (int64_t k0 = 0; k0 < shape_.k || k0 == 0; k0 += b_.kb)
                block(row, std::min(b_.mb, r_.m1 - row), k0, std::min(b_.kb, shape_.k - k0));
        if (streams_) amx::streams_are_done();
    }

private:
    BF16* group(int64_t i) const { return reinterpret_cast<BF16*>(scratch_ + b_.group_b) + i % 2 * b_.group * b_.kc; }
    float* bias() const { return reinterpret_cast<float*>(scratch_ + b_.bias); }
    int64_t panel_b() const { return amx::panel_size(b_.kc); }

    // Rows of c, one block along k: groups of columns of b, each in chunks of k.
    void block(int64_t row, int64_t rows, int64_t k0, int64_t k) {
        auto* a = reinterpret_cast<BF16*>(scratch_);
        const int64_t a_panel = amx::panel_size(k), chunks = std::max<int64_t>((k + b_.kc - 1) / b_.kc, 1),
                      all = chunks * ((r_.n1 - r_.n0 + b_.group - 1) / b_.group);
        const auto* a_at = static_cast<const BF16*>(args_.a) + (shape_.transpose_a ? k0 * shape_.lda + row : row * shape_.lda + k0);
        tiles_.pack_a(DType::bf16, a_at, shape_.lda, shape_.transpose_a, k, rows, reinterpret_cast<float*>(a), amx::kPanel, a_panel / 2);
        const auto source = [&](int64_t i) {
            return chunk(r_.n0 + i / chunks * b_.group, k0 + i % chunks * b_.kc, std::min(b_.kc, k - i % chunks * b_.kc));
        };
        amx::Packer(source(0), group(0), panel_b(), 0, 1).rest();
        for (int64_t i = 0; i < all; ++i) {
            const amx::Source now = source(i);
            const int64_t column = r_.n0 + i / chunks * b_.group, done = i % chunks * b_.kc;
            amx::Packer next;
            if (i + 1 < all) {
                const amx::Source from = source(i + 1);
                next = amx::Packer(from, group(i + 1), panel_b(), i + 2 < all ? source(i + 2).at - from.at : 0,
                                   amx::steps(now.k) * amx::panels(rows) * amx::panels(now.n));
            }
            const bool first = k0 + done == 0, last = k0 + k >= shape_.k && i % chunks == chunks - 1;
            if (args_.bias && last) to_f32(place(args_.bias, shape_.bias_type, column), shape_.bias_type, now.n, bias());
            for (int64_t at = 0; at < rows; at += amx::kPanel)
                multiply(a + at / amx::kPanel * a_panel + done / amx::kStep * amx::kStepSize, group(i), now,
                         {row, at, rows - at, column, first, last}, i + 1 < all ? &next : nullptr);
            next.rest();
        }
    }

    struct Place {
        int64_t row, at, rows, column;  // the block's first row, the panel's within it, rows from there on, the group's first column
        bool first, last;               // of the chunks of k
    };
    // One panel of a by a group of b.
    void multiply(const BF16* a, const BF16* b, const amx::Source& now, const Place& p, amx::Packer* next) {
        for (int64_t j = 0; j < now.n; j += amx::kPanel, b += panel_b()) {
            const int64_t row = p.row + p.at, column = p.column + j, rows = std::min(amx::kPanel, p.rows),
                          columns = std::min(amx::kPanel, now.n - j);
            const bool in_c = grows_in_c(rows, columns);
            float* sums = in_c ? static_cast<float*>(args_.c) + row * shape_.ldc + column : sums_at(p.at, column, j);
            const int64_t stride = in_c ? shape_.ldc : b_.sums_stride;
            if ((p.last || in_c) && !streams_) fetch_c(row, rows, column, columns);
            if (p.first && args_.into &&
                !(in_c && args_.into == args_.c))  // sums begin with it wherever they grow: the same order, the same bits
                amx::begin(sums, stride, rows, columns,
                           {place(args_.into, shape_.into_type, row * shape_.ld_into + column), shape_.into_type, shape_.ld_into});
            amx::multiply(a, b, amx::steps(now.k), rows, columns, sums, stride, !p.first || args_.into, next);
            if (p.last && !in_c) finish(sums, row, rows, column, columns, j);
        }
    }

    // Lines of c come while the tiles multiply.
    void fetch_c(int64_t row, int64_t rows, int64_t column, int64_t columns) const {
        const std::byte* c = place(args_.c, shape_.c_type, row * shape_.ldc + column);
        const int64_t size = float_size(shape_.c_type);
        for (int64_t i = 0; i < rows; ++i, c += shape_.ldc * size)
            for (int64_t at = 0; at < columns * size; at += 64) __builtin_prefetch(c + at, 1, 3);
    }

    amx::Source chunk(int64_t column, int64_t k0, int64_t k) const {
        return {.at = place(args_.b, shape_.b_type, shape_.transpose_b ? column * shape_.ldb + k0 : k0 * shape_.ldb + column),
                .stride = shape_.ldb,
                .k_major = !shape_.transpose_b,
                .k = std::max<int64_t>(k, 0),
                .n = std::min(b_.group, r_.n1 - column),
                .type = shape_.b_type};
    }

    // Whether sums of a block of c need no other place than c itself.
    bool grows_in_c(int64_t rows, int64_t columns) const {
        return shape_.c_type == DType::f32 && !args_.bias && !streams_ && rows == amx::kPanel && columns == amx::kPanel;
    }
    // A weight's gradient is read next by the update, long after caches have forgotten it: stores past them need not read it first.
    bool is_large_gradient() const {
        return shape_.c_type == DType::f32 && shape_.transpose_a && !args_.into && shape_.k <= b_.kb && shape_.ldc % 16 == 0 &&
               reinterpret_cast<uintptr_t>(args_.c) % 64 == 0 && shape_.m * shape_.n >= kLargeGradient;
    }
    // `at`: the row within the block; `j`: the column within the group.
    float* sums_at(int64_t at, int64_t column, int64_t j) const {
        auto* sums = reinterpret_cast<float*>(scratch_ + b_.sums);
        if (shape_.k <= b_.kc) return sums;
        return sums + at * b_.sums_stride + (shape_.k > b_.kb ? column - r_.n0 : j);
    }

    void finish(const float* sums, int64_t row, int64_t rows, int64_t column, int64_t columns, int64_t j) const {
        amx::finish(sums, b_.sums_stride, rows, columns,
                    {args_.bias ? bias() + j : nullptr, shape_.c_type, shape_.ldc, place(args_.c, shape_.c_type, row * shape_.ldc + column),
                     streams_});
    }

    const TileSet& tiles_ = tiles(true);
    const GemmShape& shape_;
    const GemmArgs& args_;
    const Gemm::Rectangle r_;
    const Blocks b_;
    const bool streams_;
    std::byte* scratch_;
};

}  // namespace

// Blocks are even parts, which a slightly smaller region may have larger: what any region of at most these rows and columns needs.
int64_t Gemm::amx_bytes(const GemmShape& shape, int64_t rows, int64_t columns) {
    Blocks b(shape.k, 1, 1);
    const int64_t most = std::max(kBlockOfA / b.kb / amx::kPanel, int64_t{1}) * amx::kPanel;
    b.place(shape.k, std::min(round_up(rows, amx::kPanel), most), columns);
    return round_up(b.total, 64);
}

void Gemm::amx_region(const GemmArgs& args, Rectangle r, std::byte* scratch) const { Region(shape_, args, r, scratch).run(); }

}  // namespace ds::cpu
