// Adafactor (Shazeer, Stern 2018, arXiv 1804.04235) as torch.optim.Adafactor has it. With t the step and 1 - beta2 = t^beta2_decay:
//   matrices: row = lerp(row, mean of g^2 along a row), column likewise, variance = row column / mean(row); vectors: the lerp of g^2 itself
//   u = g / sqrt(max(variance, eps1^2)),  rate = max(eps2, rms(w)) min(lr, 1 / sqrt(t))
//   w = w (1 - lr weight_decay) - rate u / max(1, rms(u) / d)
// A tensor of more than two dimensions is a batch of matrices. Rows are cut into blocks by shape alone; their sums meet in the next phase.
#include <algorithm>
#include <cstring>

#include "base/round.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/optim.h"
#include "optim/factories.h"

namespace ds {
namespace {

struct Config {
    double lr, beta2_decay, eps1, eps2, d, weight_decay;
    bool maximize;
};

// The parameter as batches x rows x columns; a vector is one row whose `columns` state is the variance itself.
struct Layout {
    explicit Layout(const Shape& shape) : matrix(shape.size() > 1) {
        columns = shape.empty() ? 1 : shape.back();
        rows = matrix ? shape[shape.size() - 2] : 1;
        batches = columns && rows ? elements(shape) / (rows * columns) : 0;
        step = matrix ? std::max<int64_t>(16, (rows + 63) / 64) : 1;
        blocks = (rows + step - 1) / step;
    }
    bool matrix;
    int64_t columns, rows, batches, step, blocks;  // blocks of `step` rows in a batch

    int64_t items() const { return batches * blocks; }
    int64_t pitch() const { return round_up(columns, 16); }
};

class Adafactor final : public Optimizer {
public:
    explicit Adafactor(const Config& config) : config_(config) {}
    Defaults defaults(const ParamTraits&) const override { return {config_.lr, config_.weight_decay, {}, {}}; }
    bool elementwise(const ParamTraits&) const override { return false; }
    int phases(const ParamTraits&) const override { return 4; }

    std::vector<StateDef> states(const ParamTraits& traits) const override {
        if (traits.shape.size() < 2) return {{"variance", Moment::second, traits.shape}};
        Shape row = traits.shape, column = traits.shape;
        row.back() = 1;
        column[column.size() - 2] = 1;
        return {{"row_var", Moment::none, row}, {"col_var", Moment::none, column}};
    }
    // Column sums of every block, then its |w|^2 and |u|^2.
    int64_t scratch_bytes(const ParamTraits& traits, int) const override {
        const Layout l(traits.shape);
        return l.items() * (l.pitch() * 4 + 16);
    }

    void update(int phase, const ParamTraits& traits, const ParamView& view, const Hyper& hyper, std::byte* scratch,
                Team team) const override {
        const Layout layout(traits.shape);
        const Step step(config_, layout, view, hyper, scratch);
        if (phase == 1) return step.columns(team);
        const auto [begin, end] = team.part(layout.items());
        for (int64_t item = begin; item < end; ++item) {
            if (phase == 0) step.gather(item);
            if (phase == 2) step.measure(item);
            if (phase == 3) step.apply(item);
        }
    }

private:
    struct Step {
        Step(const Config& config, const Layout& layout, const ParamView& parameter, const Hyper& h, std::byte* scratch)
            : c(config),
              l(layout),
              view(parameter),
              hyper(h),
              t(static_cast<double>(h.step)),
              weight(static_cast<float>(std::pow(t, config.beta2_decay))),
              factor(grad_factor(h, config.maximize)),
              bound(grad_bound(h)),
              sums(reinterpret_cast<float*>(scratch)),
              weights(reinterpret_cast<double*>(sums + l.items() * l.pitch())),
              moves(weights + l.items()),
              row_state(l.matrix ? view.state[0] : nullptr),
              column_state(view.state[l.matrix ? 1 : 0]) {}

        int64_t first(int64_t item) const { return item / l.blocks * l.rows + item % l.blocks * l.step; }
        int64_t last(int64_t item) const { return std::min((item / l.blocks + 1) * l.rows, first(item) + l.step); }

        void gather(int64_t item) const {
            float* to = sums + item * l.pitch();
            std::memset(to, 0, static_cast<size_t>(l.columns) * 4);
            double squares = 0;
            for (int64_t row = first(item); row < last(item); ++row) {
                const float mean =
                    cpu::factor_row(factor, bound, view.gradient + row * l.columns, to, l.columns) / static_cast<float>(l.columns);
                if (row_state) row_state[row] = (1 - weight) * row_state[row] + weight * mean;
                squares += cpu::sum_of_squares(view.weight + row * l.columns, l.columns);
            }
            weights[item] = squares;
        }

        void columns(Team team) const {
            const auto [begin, end] = team.part(l.columns, 16);
            if (begin >= end) return;
            for (int64_t batch = 0; batch < l.batches; ++batch) {
                float* total = sums + batch * l.blocks * l.pitch();
                for (int64_t block = 1; block < l.blocks; ++block)
                    cpu::axpby(1, total + block * l.pitch() + begin, 1, total + begin, end - begin);
                cpu::lerp(column_state + batch * l.columns + begin, total + begin, 1.0f / static_cast<float>(l.rows), weight, end - begin);
            }
        }

        double row_mean(int64_t batch) const {
            double sum = 0;
            for (int64_t row = 0; row < l.rows; ++row) sum += row_state[batch * l.rows + row];
            return std::max(sum / static_cast<double>(l.rows), c.eps1);
        }

        // The updates of a block of rows: their squares, and the weights where `rate` is given.
        double rows(int64_t item, bool write, float rate) const {
            const double mean = row_state ? row_mean(item / l.blocks) : 1;
            const float keep = static_cast<float>(1 - hyper.lr * hyper.weight_decay), least = static_cast<float>(c.eps1 * c.eps1);
            const float* variance = column_state + item / l.blocks * l.columns;
            double squares = 0;
            for (int64_t row = first(item); row < last(item); ++row) {
                const float row_factor = row_state ? static_cast<float>(row_state[row] / mean) : 1;
                const int64_t at = row * l.columns;
                for (int64_t i = 0; i < l.columns; i += cpu::kBlock) {
                    const int64_t n = std::min(cpu::kBlock, l.columns - i);
                    float* to = view.weight + at + i;
                    squares += cpu::factored_row(factor, bound, view.gradient + at + i, variance + i, row_factor, least,
                                                 write ? to : nullptr, keep, rate, n);
                    if (write && view.low) cpu::write_low(to, at + i, n, view.low, view.low_type, view.rounding);
                }
            }
            return squares;
        }

        void measure(int64_t item) const { moves[item] = rows(item, false, 0); }

        void apply(int64_t item) const {
            const auto rms = [&](const double* squares) {
                double sum = 0;
                for (int64_t i = 0; i < l.items(); ++i) sum += squares[i];
                return std::sqrt(sum / static_cast<double>(view.count));
            };
            const double rate = std::max(c.eps2, rms(weights)) * std::min(hyper.lr, 1 / std::sqrt(t));
            rows(item, true, static_cast<float>(rate / std::max(1.0, rms(moves) / c.d)));
        }

        const Config& c;
        const Layout& l;
        const ParamView& view;
        const Hyper& hyper;
        double t;
        float weight, factor, bound;
        float* sums;
        double *weights, *moves;
        float *row_state, *column_state;
    };

    Config config_;
};

}  // namespace

Result<std::unique_ptr<Optimizer>> make_adafactor(OptimizerParams& p) {
    constexpr double kEpsilon = 1.1920928955078125e-7;  // of f32, torch's meaning of an absent eps1
    Config c{
        p.number("lr", 1e-2),     p.number("beta2_decay", -0.8, -INFINITY), kEpsilon, 1e-3, p.number("d", 1), p.number("weight_decay", 0),
        p.flag("maximize", false)};
    if (c.beta2_decay > 0) p.complain("beta2_decay", "must not be above 0");
    if (c.d < 1) p.complain("d", "must be at least 1");
    if (const Json* eps = p.raw("eps")) {
        const auto fine = [](const Json& x) { return x.is_null() || (x.is_number() && x.get<double>() >= 0); };
        if (!eps->is_array() || eps->size() != 2 || !fine((*eps)[0]) || !fine((*eps)[1]))
            p.complain("eps", "must be two numbers of at least 0 (null: the default)");
        else {
            if (!(*eps)[0].is_null()) c.eps1 = (*eps)[0].get<double>();
            if (!(*eps)[1].is_null()) c.eps2 = (*eps)[1].get<double>();
        }
    }
    return finished<Adafactor>(p, c);
}

}  // namespace ds
