// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) as DeepSpeed and torch.optim.Muon have it, for hidden matrices:
//   m = lerp(m, g, 1 - momentum);  u = lerp(g, m, momentum) with nesterov, else m;  X = u / max(|u|, 1e-7)
//   five times: A = X X^T, X = a X + (b A + c A^2) X;  w = w (1 - lr weight_decay) - lr X sqrt(max(1, rows / columns))
// Everything else is updated by Adam with its own learning rate, betas and eps. X, A and P = b A + c A^2 are bf16, rounded once each, as in
// both references: their traces show it. A tall matrix has A = X^T X and a X + X P instead.
#include <algorithm>

#include "base/round.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/optim.h"
#include "optim/factories.h"

namespace ds {
namespace {

struct Config {
    double lr, momentum, weight_decay, a, b, c;
    bool nesterov, match_rms;
    int rounds;
    AdamConfig adam;
};

bool hidden(const ParamTraits& traits) { return traits.use_muon && traits.shape.size() >= 2; }

// All but the first dimension are columns.
struct Sizes {
    explicit Sizes(const Shape& shape) : rows(shape[0]), columns(shape[0] ? elements(shape) / shape[0] : 0) {}
    int64_t rows, columns;
    bool tall() const { return rows > columns; }
    int64_t side() const { return std::min(rows, columns); }
    int64_t count() const { return rows * columns; }
};

// The three products of a round.
struct Products {
    explicit Products(const Sizes& s)
        : gram(shape(s.side(), s.side(), std::max(s.rows, s.columns), s.tall(), !s.tall(), DType::bf16)),
          square(shape(s.side(), s.side(), s.side(), false, false, DType::f32)),
          apply(shape(s.rows, s.columns, s.side(), false, false, DType::bf16)) {}
    cpu::Gemm gram, square, apply;

    int64_t scratch(int threads) const {  // bytes a thread
        return round_up(std::max({gram.scratch_bytes(threads), square.scratch_bytes(threads), apply.scratch_bytes(threads)}), 64);
    }
    static cpu::GemmShape shape(int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b, DType result) {
        cpu::GemmShape g;
        g.a_type = g.b_type = DType::bf16;
        g.c_type = result;
        g.m = m, g.n = n, g.k = k;
        g.transpose_a = transpose_a, g.transpose_b = transpose_b;
        g.lda = transpose_a ? m : k;
        g.ldb = transpose_b ? k : n;
        g.ldc = g.ld_into = n;
        return g;
    }
};

class Muon final : public Optimizer {
public:
    explicit Muon(const Config& config) : config_(config) {}
    Defaults defaults(const ParamTraits& traits) const override {
        if (!hidden(traits)) return {config_.adam.lr, config_.adam.weight_decay, config_.adam.beta1, config_.adam.beta2};
        return {config_.lr, config_.weight_decay, config_.momentum, {}};
    }
    bool stands_apart(const ParamTraits& traits) const override { return hidden(traits); }
    std::vector<StateDef> states(const ParamTraits& traits) const override {
        if (!hidden(traits)) return adam_states(traits);
        return {{"momentum_buffer", Moment::first, traits.shape}};
    }
    bool elementwise(const ParamTraits& traits) const override { return !hidden(traits); }
    int phases(const ParamTraits& traits) const override { return hidden(traits) ? 3 + config_.rounds * kRoundPhases : 1; }
    int64_t scratch_bytes(const ParamTraits& traits, int threads) const override {
        if (!hidden(traits)) return 0;
        const Sizes s(traits.shape);
        return Work(s, nullptr).bytes + threads * Products(s).scratch(threads);
    }

    void update(int phase, const ParamTraits& traits, const ParamView& view, const Hyper& hyper, std::byte* scratch,
                Team team) const override {
        if (!hidden(traits)) return adam_update(config_.adam, view, hyper, team);
        const Sizes sizes(traits.shape);
        const Work work(sizes, scratch);
        if (phase == 0) return start(work, view, hyper, team);
        if (phase == 1) return normalize(work, team);
        if (phase == phases(traits) - 1) return finish(work, sizes, view, hyper, team);
        round((phase - 2) / kRoundPhases, (phase - 2) % kRoundPhases, work, sizes, team);
    }

private:
    static constexpr int kRoundPhases = 4;

    // Views of the scratch. X changes places in every round.
    struct Work {
        Work(const Sizes& s, std::byte* scratch) : base(scratch), count(s.count()), side(s.side()), blocks(cpu::squares_blocks(count)) {
            squares = take<double>(blocks);
            wide = take<float>(count);
            square = take<float>(side * side);
            x[0] = take<uint16_t>(count);
            x[1] = take<uint16_t>(count);
            gram = take<uint16_t>(side * side);
            factor = take<uint16_t>(side * side);
        }
        template <class T>
        T* take(int64_t n) {
            T* p = base ? reinterpret_cast<T*>(base + bytes) : nullptr;
            bytes += round_up(n * static_cast<int64_t>(sizeof(T)), 64);
            return p;
        }
        std::byte* base;
        int64_t bytes = 0, count, side, blocks;
        double* squares;
        float *wide, *square;  // u, then a X; A^2
        uint16_t *x[2], *gram, *factor;
    };

    // The update in wide, and rounded in x[0].
    void start(const Work& work, const ParamView& view, const Hyper& hyper, Team team) const {
        const float momentum = static_cast<float>(hyper.momentum.value_or(config_.momentum));
        const auto [begin, end] = team.part(work.blocks);
        for (int64_t block = begin; block < end; ++block) {
            const int64_t first = block * cpu::kSquaresBlock, n = std::min(work.count - first, cpu::kSquaresBlock);
            cpu::muon_momentum(grad_factor(hyper), grad_bound(hyper), momentum, config_.nesterov, view.gradient + first,
                               view.state[0] + first, work.wide + first, n);
            cpu::from_f32(work.wide + first, n, DType::bf16, work.x[0] + first);
            cpu::to_f32(work.x[0] + first, DType::bf16, n, work.wide + first);
            work.squares[block] = cpu::sum_of_squares(work.wide + first, n);
        }
    }

    static void normalize(const Work& work, Team team) {
        double sum = 0;
        for (int64_t i = 0; i < work.blocks; ++i) sum += work.squares[i];
        const float norm = std::max(to_f32(to_bf16(static_cast<float>(std::sqrt(sum)))), 1e-7f);
        const auto [begin, end] = team.part(work.count, cpu::kBlock);
        for (int64_t i = begin; i < end; ++i) work.wide[i] /= norm;
        if (begin < end) cpu::from_f32(work.wide + begin, end - begin, DType::bf16, work.x[0] + begin);
    }

    void round(int number, int part, const Work& work, const Sizes& s, Team team) const {
        const uint16_t* x = work.x[number % 2];
        if (part == 2) return polynomial(work, x, team);
        const Products products(s);
        std::byte* own = work.base + work.bytes + team.rank * products.scratch(team.size);
        if (part == 0) return products.gram.run({x, x, work.gram, nullptr, nullptr}, team, own);
        if (part == 1) return products.square.run({work.gram, work.gram, work.square, nullptr, nullptr}, team, own);
        products.apply.run({s.tall() ? x : work.factor, s.tall() ? work.factor : x, work.x[(number + 1) % 2], nullptr, work.wide}, team,
                           own);
    }

    // P = b A + c A^2, and wide = a X.
    void polynomial(const Work& work, const uint16_t* x, Team team) const {
        alignas(64) float buffer[cpu::kBlock];
        const int64_t size = work.side * work.side;
        const auto [begin, end] = team.part(size, cpu::kBlock);
        for (int64_t i = begin; i < end; i += cpu::kBlock) {
            const int64_t n = std::min(cpu::kBlock, end - i);
            cpu::to_f32(work.gram + i, DType::bf16, n, buffer);
            cpu::axpby(static_cast<float>(config_.b), buffer, static_cast<float>(config_.c), work.square + i, n);
            cpu::from_f32(work.square + i, n, DType::bf16, work.factor + i);
        }
        const auto [first, last] = team.part(work.count, cpu::kBlock);
        if (first == last) return;
        cpu::to_f32(x + first, DType::bf16, last - first, work.wide + first);
        cpu::scale_in_place(work.wide + first, last - first, static_cast<float>(config_.a), Team{});
    }

    void finish(const Work& work, const Sizes& s, const ParamView& view, const Hyper& hyper, Team team) const {
        const double rows = static_cast<double>(s.rows), columns = static_cast<double>(s.columns);
        const double size = config_.match_rms ? 0.2 * std::sqrt(std::max(rows, columns)) : std::sqrt(std::max(1.0, rows / columns));
        const uint16_t* x = work.x[config_.rounds % 2];
        alignas(64) float move[cpu::kBlock];
        const auto [begin, end] = team.part(view.count, cpu::kBlock);
        for (int64_t i = begin; i < end; i += cpu::kBlock) {
            const int64_t n = std::min(cpu::kBlock, end - i);
            cpu::to_f32(x + i, DType::bf16, n, move);
            cpu::axpby(static_cast<float>(-hyper.lr * size), move, static_cast<float>(1 - hyper.lr * hyper.weight_decay), view.weight + i,
                       n);
            if (view.low) cpu::write_low(view.weight + i, i, n, view.low, view.low_type, view.rounding);
        }
    }

    Config config_;
};

}  // namespace

Result<std::unique_ptr<Optimizer>> make_muon(OptimizerParams& p) {
    Config c{};
    const double lr = p.number("lr", -1);
    c.lr = p.number("muon_lr", lr >= 0 ? lr : 0.02);
    c.adam.lr = p.number("adam_lr", lr >= 0 ? lr : 3e-4);
    c.momentum = p.number("momentum", 0.95, 0, 1);
    c.nesterov = p.flag("nesterov", true);
    c.weight_decay = c.adam.weight_decay = p.number("weight_decay", 0);
    std::tie(c.adam.beta1, c.adam.beta2) = p.betas(0.9, 0.95);
    c.adam.eps = p.number("eps", 1e-10);
    c.rounds = static_cast<int>(p.number("ns_steps", 5, 0, 100));
    p.choice("ns_method", "gram", {"gram", "standard"});  // two ways to one result
    c.match_rms = p.choice("adjust_lr_fn", "original", {"original", "match_rms_adamw"}) == "match_rms_adamw";
    c.a = 3.4445, c.b = -4.775, c.c = 2.0315;
    if (const Json* list = p.raw("ns_coefficients")) {
        const bool fine =
            list->is_array() && list->size() == 3 && std::all_of(list->begin(), list->end(), [](const Json& x) { return x.is_number(); });
        if (fine) c.a = (*list)[0].get<double>(), c.b = (*list)[1].get<double>(), c.c = (*list)[2].get<double>();
        else p.complain("ns_coefficients", "must be three numbers");
    }
    return finished<Muon>(p, c);
}

}  // namespace ds
