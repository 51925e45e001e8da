#include "lr/batch_growth.h"

#include <algorithm>
#include <cmath>

namespace ds {

double scaled_rate(const std::string& method, double rows, double first_rows) {
    return method == "linear" ? rows / first_rows : method == "sqrt" ? std::sqrt(rows / first_rows) : 1;
}

Result<std::unique_ptr<BatchGrowth>> BatchGrowth::make(const Json& section, int64_t rows, int64_t unit) {
    auto growth = std::make_unique<BatchGrowth>();
    growth->by_ = section.value("by", "steps");
    growth->scaling_ = section.value("lr_scaling", "linear");
    growth->first_ = growth->rows_ = rows;
    growth->unit_ = unit;
    growth->factor_ = section.value("factor", 2.0);
    growth->patience_ = section.value("patience", int64_t{100});
    growth->threshold_ = section.value("threshold", 0.01);
    growth->smoothing_ = section.value("smoothing", 0.9);
    const auto refuse = [](const char* key, const std::string& what) {
        return fail(Code::E_CONFIG, "config: batch_growth.{}: {}", key, what);
    };
    const Json schedule = section.value("schedule", Json::array()), most = section.value("max_batch_size", Json());
    const bool table = growth->by_ == "steps" || growth->by_ == "tokens";
    if (!table && most.is_null())
        return refuse("max_batch_size", fmt::format("needed where by is {}: rows of an update at most", growth->by_));
    if (!table && !schedule.empty())
        return refuse("schedule", fmt::format("has no effect where by is {}; it belongs to steps and tokens", growth->by_));
    if (table && schedule.empty())
        return refuse("schedule", fmt::format("needed where by is {}: a list of [{}, rows], from which on an update takes so many rows",
                                              growth->by_, growth->by_));
    if (growth->factor_ <= 1) return refuse("factor", fmt::format("must be above 1, is {}", growth->factor_));
    if (growth->by_ == "noise_scale" && rows <= unit && unit == 1)
        return refuse("by",
                      "noise_scale compares the gradient of a part of the batch with the whole one's: it needs gradient_accumulation_steps "
                      "or parallel.data above 1");
    for (const Json& entry : schedule) {
        if (!entry.is_array() || entry.size() != 2 || !entry[0].is_number_integer() || !entry[1].is_number_integer() || entry[0] < 0 ||
            entry[1] < 1)
            return refuse("schedule", fmt::format("an entry must be [{}, rows], two integers, is {}", growth->by_, entry.dump()));
        const auto from = entry[0].get<int64_t>(), to = entry[1].get<int64_t>();
        if (to % unit)
            return refuse("schedule",
                          fmt::format("{} rows are not a multiple of {}, the rows of a micro-batch of all data ranks", to, unit));
        const int64_t before = growth->table_.empty() ? rows : growth->table_.back().second,
                      after = growth->table_.empty() ? 0 : growth->table_.back().first;
        if (to < before || from < after) return refuse("schedule", fmt::format("must grow, but {} follows {} rows", entry.dump(), before));
        growth->table_.emplace_back(from, to);
    }
    growth->most_ = table ? INT64_MAX : most.get<int64_t>() / unit * unit;
    if (!most.is_null() && growth->most_ < rows)
        return refuse("max_batch_size", fmt::format("must be at least train_batch_size, which is {}; is {}", rows, most.dump()));
    if (table) growth->step({});
    return growth;
}

void BatchGrowth::grow_to(double rows) {
    const auto whole = static_cast<int64_t>(std::min(rows, static_cast<double>(most_))) / unit_ * unit_;
    rows_ = std::max(rows_, std::min(whole, most_));
}

void BatchGrowth::step(const StepFacts& facts) {
    for (const auto& [from, rows] : table_)
        if ((by_ == "steps" ? facts.steps : facts.tokens) >= from) rows_ = std::max(rows_, rows);
    if (by_ == "plateau" && facts.loss && std::isfinite(*facts.loss)) watch_loss(*facts.loss);
    if (by_ == "noise_scale" && facts.noise) watch_noise(*facts.noise);
}

void BatchGrowth::watch_loss(double loss) {
    loss_ = smoothing_ * loss_ + (1 - smoothing_) * loss;
    loss_weight_ = smoothing_ * loss_weight_ + (1 - smoothing_);
    const double now = loss_ / loss_weight_;
    if (!has_best_ || now < best_ - threshold_ * std::abs(best_)) {
        best_ = now, has_best_ = true, waited_ = 0;
        return;
    }
    if (++waited_ < patience_) return;
    grow_to(static_cast<double>(rows_) * factor_);
    best_ = now, waited_ = 0;
}

// Both estimates are unbiased; their means are, their quotient nearly.
void BatchGrowth::watch_noise(const NoiseSample& s) {
    if (s.rows <= s.small_rows || !std::isfinite(s.small_squares) || !std::isfinite(s.squares)) return;
    const double square = (s.rows * s.squares - s.small_rows * s.small_squares) / (s.rows - s.small_rows);
    const double trace = (s.small_squares - s.squares) / (1 / s.small_rows - 1 / s.rows);
    square_ = smoothing_ * square_ + (1 - smoothing_) * square;
    trace_ = smoothing_ * trace_ + (1 - smoothing_) * trace;
    if (++waited_ < patience_) return;
    waited_ = 0;
    grow_to(std::min(noise_scale(), static_cast<double>(rows_) * factor_));
}

double BatchGrowth::noise_scale() const { return square_ > 0 && trace_ > 0 ? trace_ / square_ : 0; }

Json BatchGrowth::state() const {
    return {{"rows", rows_},         {"loss", loss_},   {"loss_weight", loss_weight_}, {"best", best_},
            {"has_best", has_best_}, {"trace", trace_}, {"square", square_},           {"waited", waited_}};
}

Status BatchGrowth::restore(const Json& state) {
    for (const char* name : {"rows", "loss", "loss_weight", "best", "trace", "square", "waited"})
        if (!state.is_object() || !state.contains(name) || !state[name].is_number())
            return fail(Code::E_CORRUPT, "batch growth state: {} must be a number", name);
    const auto rows = state["rows"].get<int64_t>();
    if (rows < 1 || rows % unit_)
        return fail(Code::E_STATE,
                    "batch growth state: saved with {} rows an update, which are not a multiple of {}, the rows of a micro-batch of all "
                    "data ranks now",
                    rows, unit_);
    rows_ = rows;
    loss_ = state["loss"], loss_weight_ = state["loss_weight"], best_ = state["best"], has_best_ = state.value("has_best", false);
    trace_ = state["trace"], square_ = state["square"], waited_ = state["waited"];
    return ok();
}

}  // namespace ds
