#include "kernels/cpu/gemm.h"

#include <algorithm>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/level.h"

namespace ds::cpu {
namespace {

constexpr int64_t kUnitsAtOnce = 800;       // that a tile sums up before it writes to c
constexpr int64_t kMostUnits = 1200;        // of a block of b, and of a
constexpr int64_t kBlockOfB = 80 * 1024;    // units: in the second, with what is fetched ahead
constexpr int64_t kBlockOfA = 1536 * 1024;  // units: in the third
constexpr int64_t kSkew = 16;               // keeps panels from falling on the same cache sets

int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }
// The size of equal parts of n that are at most `most`.
int64_t even_part(int64_t n, int64_t most) { return n > 0 ? parts(n, parts(n, most)) : 1; }
// The most that one `among` so many gets of n when they are cut in grains.
int64_t largest_part(int64_t n, int64_t grain, int64_t among) { return parts(parts(n, grain), among) * grain; }

const std::byte* place(const void* p, DType type, int64_t index) { return static_cast<const std::byte*>(p) + index * float_size(type); }
std::byte* place(void* p, DType type, int64_t index) { return static_cast<std::byte*>(p) + index * float_size(type); }

}  // namespace

Gemm::Gemm(const GemmShape& shape) : shape_(shape) {
    const bool bf16 = shape.a_type == DType::bf16 && (shape.b_type == DType::bf16 || shape.round_b);
    tiles_ = &tiles(bf16);
    amx_ = bf16 && level() == Level::amx_bf16;
    row_grain_ = amx_ ? amx::kPanel : tiles_->rows;
    column_grain_ = amx_ ? amx::kPanel : tiles_->columns();
    units_ = tiles_->units(shape.k);
    kb_ = even_part(units_, kMostUnits);
    kc_ = even_part(kb_, kUnitsAtOnce);
    kb_ = round_up(kb_, kc_);
    in_rows_ = !shape.transpose_a && tiles_->takes_rows(shape.a_type, shape.k, shape.lda);
    row_stride_ = shape.lda / tiles_->step;
    mb_ = in_rows_ && shape.c_type == DType::f32 ? round_up(std::max<int64_t>(shape.m, 1), tiles_->rows)
                                                 : std::clamp<int64_t>(kBlockOfA / kb_ / tiles_->rows, 4, 128) * tiles_->rows;
    nc_ = std::clamp<int64_t>(kBlockOfB / kb_ / tiles_->columns(), 1, 64) * tiles_->columns();
}

// One rectangle of c, and where its packed blocks lie in a thread's scratch.
class GemmRegion {
public:
    GemmRegion(const Gemm& gemm, int64_t rows, int64_t columns) : g_(gemm), shape_(gemm.shape_), t_(*gemm.tiles_) {
        mb_ = round_up(even_part(rows, g_.mb_), t_.rows);
        nc_ = round_up(even_part(columns, g_.nc_), t_.columns());
        place_blocks(columns);
    }
    // What any region of at most these rows and columns needs: blocks are even parts, which a slightly smaller region may have larger.
    static int64_t bytes(const Gemm& gemm, int64_t rows, int64_t columns) {
        GemmRegion r(gemm, 1, 1);
        r.mb_ = std::min(round_up(rows, r.t_.rows), gemm.mb_);
        r.nc_ = std::min(round_up(columns, r.t_.columns()), gemm.nc_);
        r.place_blocks(columns);
        return round_up(r.floats_ * 4, 64);
    }

    void run(const GemmArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1, float* scratch) {
        args_ = args;
        scratch_ = scratch;
        for (int64_t row = m0; row < m1; row += mb_) {
            const int64_t rows = std::min(mb_, m1 - row);
            int64_t unit = 0;
            do {  // at least once: where k is 0 bias and into remain
                const int64_t units = std::min(g_.kb_, g_.units_ - unit), k0 = unit * t_.step;
                if (!g_.in_rows_)
                    t_.pack_a(shape_.a_type,
                              place(args.a, shape_.a_type, shape_.transpose_a ? k0 * shape_.lda + row : row * shape_.lda + k0), shape_.lda,
                              shape_.transpose_a, std::min(units * t_.step, shape_.k - k0), rows, scratch, t_.rows, a_panel_);
                for (int64_t column = n0; column < n1; column += nc_)
                    columns({row, rows, column, std::min(nc_, n1 - column), column - n0, unit, units}, n1);
                unit += g_.kb_;
            } while (unit < g_.units_);
        }
    }

private:
    // Of c, by a stretch of k: rows that a's packed block has, columns that b's has, which begin `from_left` columns into the region.
    struct Block {
        int64_t row, rows, column, columns, from_left, unit, units;
    };

    void place_blocks(int64_t columns) {
        a_panel_ = t_.rows * g_.kb_ + kSkew;
        b_panel_ = t_.columns() * g_.kb_ + kSkew;
        b_ = g_.in_rows_ ? 0 : mb_ / t_.rows * a_panel_;
        bias_ = b_ + nc_ / t_.columns() * b_panel_;
        sums_ = bias_ + nc_;
        sums_stride_ = 0;
        floats_ = sums_;
        if (shape_.c_type != DType::f32 &&
            g_.units_ > g_.kc_) {  // of all rows and columns, where a's block does not hold all of k; else of a panel
            const bool many = g_.units_ > g_.kb_;
            sums_stride_ = (many ? round_up(columns, t_.columns()) : nc_) + kSkew;
            floats_ += (many ? mb_ : t_.rows) * sums_stride_;
        }
    }

    // Panel i of a, from a unit of the block on.
    const float* panel_of_a(const Block& w, int64_t i, int64_t done) const {
        if (g_.in_rows_) return static_cast<const float*>(args_.a) + (w.row + i) * g_.row_stride_ + w.unit + done;
        return scratch_ + i / t_.rows * a_panel_ + done * t_.rows;
    }

    const std::byte* source_of_b(int64_t column, int64_t k) const {
        return place(args_.b, shape_.b_type, shape_.transpose_b ? column * shape_.ldb + k : k * shape_.ldb + column);
    }
    // What of b is packed after this block, among this region's columns: rows of its lines, and how many.
    Ahead after(const Block& w, int64_t n1) const {
        const int64_t column = w.column + w.columns, columns = std::min(nc_, n1 - column), k0 = w.unit * t_.step,
                      k = std::min(w.units * t_.step, shape_.k - k0);
        if (columns <= 0 || k <= 0) return {};
        const int64_t size = float_size(shape_.b_type);
        return {source_of_b(column, k0), shape_.ldb * size, parts((shape_.transpose_b ? k : columns) * size, 64),
                shape_.transpose_b ? columns : k};
    }

    // Brings what comes next into the second cache, some lines with each tile of a panel: the next panel's part of a and rows of c, and a
    // share of the next block of b.
    class Fetch {
    public:
        Fetch(const GemmRegion& r, const Block& w, int64_t i, const Ahead& b)
            : tiles_(std::max<int64_t>(parts(w.columns, r.t_.columns()) * parts(w.units, r.g_.kc_), 1)) {
            if (w.units == 0) return;
            const int64_t panels = parts(w.rows, r.t_.rows), panel = i / r.t_.rows, first = b.rows * panel / panels;
            what_[2] = {b.from + first * b.stride, b.stride, b.lines, b.rows * (panel + 1) / panels - first};
            if (i += r.t_.rows; i < w.rows) {
                const int64_t rows = std::min<int64_t>(r.t_.rows, w.rows - i), size = float_size(r.shape_.c_type);
                const auto* a = reinterpret_cast<const std::byte*>(r.panel_of_a(w, i, 0));
                if (r.g_.in_rows_) what_[0] = {a, r.g_.row_stride_ * 4, parts(w.units, 16), rows};
                else what_[0] = {a, kRun * 64, kRun, parts(w.units * r.t_.rows, kRun * 16)};
                what_[1] = {place(r.args_.c, r.shape_.c_type, (w.row + i) * r.shape_.ldc + w.column), r.shape_.ldc * size,
                            parts(w.columns * size, 64), rows};
            }
            for (const Ahead& what : what_) rows_ += what.rows;
        }
        Ahead next() {
            int64_t begin = tile_ * rows_ / tiles_, end = ++tile_ * rows_ / tiles_;
            for (const Ahead& what : what_) {
                if (begin < what.rows) return {what.from + begin * what.stride, what.stride, what.lines, std::min(end, what.rows) - begin};
                begin -= what.rows, end -= what.rows;
            }
            return {};
        }

    private:
        static constexpr int64_t kRun = 32;  // lines of a packed a
        Ahead what_[3];
        int64_t rows_ = 0, tiles_, tile_ = 0;
    };

    // Multiplies the packed block of a with one of b. All of k that both have goes into a panel of c before the next one, so that c's lines
    // come once.
    void columns(const Block& w, int64_t n1) {
        const int64_t k0 = w.unit * t_.step;
        if (args_.bias) to_f32(place(args_.bias, shape_.bias_type, w.column), shape_.bias_type, w.columns, scratch_ + bias_);
        t_.pack_b(shape_.b_type, source_of_b(w.column, k0), shape_.ldb, !shape_.transpose_b, std::min(w.units * t_.step, shape_.k - k0),
                  w.columns, scratch_ + b_, t_.columns(), b_panel_);
        const Ahead ahead = after(w, n1);
        for (int64_t i = 0; i < w.rows; i += t_.rows) panel(w, i, Fetch(*this, w, i, ahead));
    }

    void panel(const Block& w, int64_t i, Fetch fetch) {
        const int64_t rows = std::min<int64_t>(t_.rows, w.rows - i);
        float* sums = scratch_ + sums_ + (g_.units_ > g_.kb_ ? i * sums_stride_ + w.from_left : 0);
        for (int64_t done = 0; done < w.units || done == 0; done += g_.kc_) {
            const int64_t now = std::min(g_.kc_, w.units - done);
            const bool first = w.unit + done == 0, last = w.unit + done + now >= g_.units_;
            for (int64_t j = 0; j < w.columns; j += t_.columns())
                tile({panel_of_a(w, i, done), scratch_ + b_ + j / t_.columns() * b_panel_ + done * t_.columns(), now, fetch.next()},
                     w.row + i, rows, w.column + j, std::min<int64_t>(t_.columns(), w.columns - j), scratch_ + bias_ + j, sums + j, first,
                     last);
        }
    }

    struct Operands {
        const float *a, *b;
        int64_t units;
        Ahead ahead;
    };

    void tile(const Operands& o, int64_t row, int64_t rows, int64_t column, int64_t columns, const float* bias, float* sums, bool first,
              bool last) {
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
        const auto& tiles = g_.in_rows_ ? t_.row_tile : t_.tile;
        tiles[narrow ? 0 : 1][rows - 1](rows, o.units, o.a, g_.in_rows_ ? g_.row_stride_ : t_.rows, o.b, t_.columns(), to, stride,
                                        accumulate, o.ahead);
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
        const double cost = m * n + packing * ((in_rows_ ? 0 : m) + n);
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
