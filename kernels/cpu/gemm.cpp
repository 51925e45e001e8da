#include "kernels/cpu/gemm.h"

#include <algorithm>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/level.h"

namespace ds::cpu {
namespace {

constexpr int64_t kUnitsInB = 400;          // one panel of a (12 x 400 units; AMX 32 x 256) stays in the first cache,
constexpr int64_t kBlockOfB = 64 * 1024;    // a block of b (units) in the second,
constexpr int64_t kBlockOfA = 1536 * 1024;  // and a block of a in the third
constexpr int64_t kUnitsOfAmx = 256;
constexpr int64_t kBlocksInA = 12;          // at most, of the units that b has
constexpr int64_t kSkew = 16;               // keeps panels from falling on the same cache sets

int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
// The size of equal parts of n that are at most `most`.
int64_t even_part(int64_t n, int64_t most) {
    const int64_t parts = (n + most - 1) / most;
    return parts ? (n + parts - 1) / parts : 1;
}
// The most that one of `parts` gets of n when they are cut in grains.
int64_t largest_part(int64_t n, int64_t grain, int64_t parts) { return ((n + grain - 1) / grain + parts - 1) / parts * grain; }

const std::byte* place(const void* p, DType type, int64_t index) { return static_cast<const std::byte*>(p) + index * float_size(type); }
std::byte* place(void* p, DType type, int64_t index) { return static_cast<std::byte*>(p) + index * float_size(type); }

}  // namespace

Gemm::Gemm(const GemmShape& shape) : shape_(shape) {
    const bool bf16 = shape.a_type == DType::bf16 && shape.b_type == DType::bf16;
    tiles_ = &tiles(bf16);
    amx_ = bf16 && level() == Level::amx_bf16;
    row_grain_ = amx_ ? amx::kPanel : tiles_->rows;
    column_grain_ = amx_ ? amx::kPanel : tiles_->columns();
    units_ = tiles_->units(shape.k);
    const int64_t in_b = tiles_->grain > 1 ? kUnitsOfAmx : kUnitsInB;
    kb_ = even_part(units_, kBlocksInA * in_b);
    kc_ = up(even_part(kb_, in_b), tiles_->grain);
    kb_ = up(kb_, kc_);
    mb_ = std::clamp<int64_t>(kBlockOfA / kb_ / tiles_->rows, 4, 128) * tiles_->rows;
    nc_ = std::clamp<int64_t>(kBlockOfB / kc_ / tiles_->columns(), 1, 64) * tiles_->columns();
}

// One rectangle of c, and where its packed blocks lie in a thread's scratch.
class GemmRegion {
public:
    GemmRegion(const Gemm& gemm, int64_t rows, int64_t columns) : g_(gemm), shape_(gemm.shape_), t_(*gemm.tiles_) {
        mb_ = up(even_part(rows, g_.mb_), t_.rows);
        nc_ = up(even_part(columns, g_.nc_), t_.columns());
        place_blocks(columns);
    }
    // What any region of at most these rows and columns needs: blocks are even parts, which a slightly smaller region may have larger.
    static int64_t bytes(const Gemm& gemm, int64_t rows, int64_t columns) {
        GemmRegion r(gemm, 1, 1);
        r.mb_ = std::min(up(rows, r.t_.rows), gemm.mb_);
        r.nc_ = std::min(up(columns, r.t_.columns()), gemm.nc_);
        r.place_blocks(columns);
        return up(r.floats_ * 4, 64);
    }

    void run(const GemmArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1, float* scratch) {
        const TileUse use(t_);
        args_ = args;
        scratch_ = scratch;
        for (int64_t row = m0; row < m1; row += mb_) {
            const int64_t rows = std::min(mb_, m1 - row);
            int64_t unit = 0;
            do {  // at least once: where k is 0 bias and into remain
                const int64_t units = std::min(g_.kb_, g_.units_ - unit), k0 = unit * t_.step;
                t_.pack_a(shape_.a_type, place(args.a, shape_.a_type, shape_.transpose_a ? k0 * shape_.lda + row : row * shape_.lda + k0),
                        shape_.lda, shape_.transpose_a, std::min(units * t_.step, shape_.k - k0), rows, scratch, t_.rows, a_panel_);
                for (int64_t column = n0; column < n1; column += nc_)
                    columns(row, rows, column, std::min(nc_, n1 - column), n0, n1, unit, units);
                unit += g_.kb_;
            } while (unit < g_.units_);
        }
    }

private:
    void place_blocks(int64_t columns) {
        a_panel_ = t_.rows * g_.kb_ + kSkew;
        b_panel_ = t_.columns() * g_.kc_ + kSkew;
        b_ = mb_ / t_.rows * a_panel_;
        bias_ = b_ + nc_ / t_.columns() * b_panel_;
        sums_ = bias_ + nc_;
        sums_stride_ = 0;
        floats_ = sums_;
        if (shape_.c_type != DType::f32 && g_.units_ > g_.kc_) {
            sums_stride_ = (g_.units_ > g_.kb_ ? up(columns, t_.columns()) : nc_) + kSkew;
            floats_ += mb_ * sums_stride_;
        }
    }
    // Multiplies the packed block of a with [unit, unit + units) x [column, column + count) of b.
    void columns(int64_t row, int64_t rows, int64_t column, int64_t count, int64_t n0, int64_t n1, int64_t unit, int64_t units) {
        if (args_.bias) to_f32(place(args_.bias, shape_.bias_type, column), shape_.bias_type, count, scratch_ + bias_);
        // Sums wait for later blocks of k: of these columns only, or of all when a's block does not hold all of k.
        float* sums = scratch_ + sums_ + (g_.units_ > g_.kb_ ? column - n0 : 0);
        for (int64_t done = 0; done < units || done == 0; done += g_.kc_) {
            const int64_t now = std::min(g_.kc_, units - done), k0 = (unit + done) * t_.step;
            float* b = scratch_ + b_;
            t_.pack_b(shape_.b_type, source(column, k0), shape_.ldb, !shape_.transpose_b, std::min(now * t_.step, shape_.k - k0), count, b,
                    t_.columns(), b_panel_);
            Fetch fetch = done + now < units ? next(column, count, k0 + now * t_.step, rows)
                                             : next(column + count, std::min(nc_, n1 - column - count), unit * t_.step, rows);
            for (int64_t i = 0; i < rows; i += t_.rows, fetch.some())
                for (int64_t j = 0; j < count; j += t_.columns())
                    tile(scratch_ + i / t_.rows * a_panel_ + done * t_.rows, b + j / t_.columns() * b_panel_, now, row + i,
                         std::min<int64_t>(t_.rows, rows - i), column + j, std::min<int64_t>(t_.columns(), count - j), scratch_ + bias_ + j,
                         sums + i * sums_stride_ + j, unit + done == 0, unit + done + now >= g_.units_);
        }
    }

    const std::byte* source(int64_t column, int64_t k0) const {
        return place(args_.b, shape_.b_type, shape_.transpose_b ? column * shape_.ldb + k0 : k0 * shape_.ldb + column);
    }

    // Brings the block of b that is packed next into the second cache, in as many portions as there are panels of a to multiply meanwhile.
    struct Fetch {
        const std::byte* row;
        int64_t rows, row_bytes, stride, portion;
        void some() {
            for (int64_t i = std::min(portion, rows); i > 0; --i, --rows, row += stride)
                for (int64_t at = 0; at < row_bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
        }
    };
    Fetch next(int64_t column, int64_t count, int64_t k0, int64_t rows) const {
        const int64_t size = float_size(shape_.b_type), ks = std::min(g_.kc_ * t_.step, shape_.k - k0);
        if (count <= 0 || ks <= 0) return {nullptr, 0, 0, 0, 0};
        const int64_t lines = shape_.transpose_b ? count : ks, panels = (rows + t_.rows - 1) / t_.rows;
        return {source(column, k0), lines, (shape_.transpose_b ? ks : count) * size, shape_.ldb * size, (lines + panels - 1) / panels};
    }

    void tile(const float* a, const float* b, int64_t units, int64_t row, int64_t rows, int64_t column, int64_t columns, const float* bias,
              float* sums, bool first, bool last) {
        const bool f32 = shape_.c_type == DType::f32, narrow = columns <= t_.lanes, whole = columns == (narrow ? t_.lanes : t_.columns());
        std::byte* c = place(args_.c, shape_.c_type, row * shape_.ldc + column);
        // Where sums grow: in c itself, in scratch until the last block of k, or here when there is one block only or c has no room for a
        // tile.
        alignas(64) float local[kMaxTileRows * kMaxTileColumns];
        float* to = local;
        int64_t stride = kMaxTileColumns;
        if (f32 && whole) to = reinterpret_cast<float*>(c), stride = shape_.ldc;
        else if (!f32 && g_.units_ > g_.kc_) to = sums, stride = sums_stride_;
        bool accumulate = true;
        if (first) accumulate = start(to, stride, row, rows, column, columns, bias);
        else if (f32 && !whole) copy(to, stride, c, DType::f32, shape_.ldc, rows, columns);
        t_.tile[narrow ? 0 : 1][rows - 1](rows, units, a, t_.rows, b, t_.columns(), to, stride, accumulate);
        if (f32 ? !whole : last) store_rows(to, stride, rows, columns, shape_.c_type, c, shape_.ldc);
    }

    // What sums begin with: bias and into. False: with zero.
    bool start(float* to, int64_t stride, int64_t row, int64_t rows, int64_t column, int64_t columns, const float* bias) const {
        if (!args_.bias && !args_.into) return false;
        if (args_.into) {
            const std::byte* into = place(args_.into, shape_.into_type, row * shape_.ld_into + column);
            if (static_cast<const void*>(into) != to) copy(to, stride, into, shape_.into_type, shape_.ld_into, rows, columns);
        }
        for (int64_t i = 0; args_.bias && i < rows; ++i, to += stride)
            for (int64_t j = 0; j < columns; ++j) to[j] = args_.into ? to[j] + bias[j] : bias[j];
        return true;
    }

    static void copy(float* to, int64_t stride, const std::byte* from, DType type, int64_t from_stride, int64_t rows, int64_t columns) {
        for (int64_t i = 0; i < rows; ++i) to_f32(from + i * from_stride * float_size(type), type, columns, to + i * stride);
    }

    const Gemm& g_;
    const GemmShape& shape_;
    const TileSet& t_;
    GemmArgs args_;
    float* scratch_ = nullptr;  // the packed block of a lies first
    int64_t mb_, nc_, a_panel_, b_panel_, b_, bias_, sums_, sums_stride_, floats_;
};

// The grid of parts whose largest part costs least; packing an element costs as much as a few multiplications.
Gemm::Grid Gemm::grid(int threads) const {
    constexpr double packing = 12;
    Grid best{1, threads};
    double least = 0;
    for (int rows = 1; rows <= threads; ++rows) {
        if (threads % rows) continue;
        const auto m = static_cast<double>(largest_part(shape_.m, row_grain_, rows)),
                   n = static_cast<double>(largest_part(shape_.n, column_grain_, threads / rows));
        const double cost = m * n + packing * (m + n);
        if (rows == 1 || cost < least) {
            least = cost;
            best = {rows, threads / rows};
        }
    }
    return best;
}

int64_t Gemm::scratch_bytes(int threads) const {
    if (shape_.m == 0 || shape_.n == 0) return 0;
    const Grid g = grid(threads);
    const int64_t rows = largest_part(shape_.m, row_grain_, g.rows), columns = largest_part(shape_.n, column_grain_, g.columns);
    return amx_ ? amx_bytes(shape_, rows, columns) : GemmRegion::bytes(*this, rows, columns);
}

void Gemm::run(const GemmArgs& args, Team team, std::byte* scratch) const {
    const Grid g = grid(team.size);
    const auto [m0, m1] = Team{team.rank / g.columns, g.rows}.part(shape_.m, row_grain_);
    const auto [n0, n1] = Team{team.rank % g.columns, g.columns}.part(shape_.n, column_grain_);
    region(args, m0, m1, n0, n1, scratch);
}

void Gemm::region(const GemmArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1, std::byte* scratch) const {
    if (m0 >= m1 || n0 >= n1) return;
    if (amx_) amx_region(args, {m0, m1, n0, n1}, scratch);
    else GemmRegion(*this, m1 - m0, n1 - n0).run(args, m0, m1, n0, n1, reinterpret_cast<float*>(scratch));
}

}  // namespace ds::cpu
