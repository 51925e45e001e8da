// Generation: greedy or sampled continuation of a prompt. Every step runs the whole sequence again; a cache of keys and values is not built.
#include <algorithm>
#include <cmath>

#include "engine/engine.h"
#include "engine/pack.h"

namespace ds {
namespace {

struct Sampling {
    int64_t max_new_tokens = 32, top_k = 0, seed = 0;
    double temperature = 0, top_p = 1;
    std::vector<int32_t> stop;
};

Result<Sampling> sampling_of(std::string_view text, const Json& model_config) {
    Json options = Json::object();
    if (!text.empty()) {
        DS_TRY(options, parse_json(text, "ds_generate: options"));
    }
    Sampling s;
    for (const auto& [key, value] : options.items()) {
        const auto bad = [&](const char* accepted) { return fail(Code::E_INVALID_ARGUMENT, "ds_generate: {} must be {}, not {}", key, accepted, value.dump()); };
        const auto count = [&](int64_t& to) { return value.is_number_integer() && value.get<int64_t>() >= 0 && (to = value.get<int64_t>(), true); };
        if (key == "max_new_tokens") { if (!count(s.max_new_tokens)) return bad("a non-negative integer"); }
        else if (key == "top_k") { if (!count(s.top_k)) return bad("a non-negative integer"); }
        else if (key == "seed") { if (!count(s.seed)) return bad("a non-negative integer"); }
        else if (key == "temperature") { if (!value.is_number() || value.get<double>() < 0) return bad("a number of at least 0"); s.temperature = value.get<double>(); }
        else if (key == "top_p") { if (!value.is_number() || value.get<double>() <= 0 || value.get<double>() > 1) return bad("a number in (0, 1]"); s.top_p = value.get<double>(); }
        else if (key != "eos_id") return fail(Code::E_INVALID_ARGUMENT, "ds_generate: option {} is unknown; accepted: max_new_tokens, temperature, top_k, top_p, seed, eos_id", key);
    }
    const Json eos = options.contains("eos_id") ? options["eos_id"] : model_config.value("eos_token_id", Json());
    for (const Json& id : eos.is_array() ? eos : Json::array({eos}))
        if (id.is_number_integer()) s.stop.push_back(id.get<int32_t>());
    return s;
}

int32_t pick(const float* logits, int64_t n, const Sampling& s, uint64_t position) {
    if (s.temperature == 0) return static_cast<int32_t>(std::max_element(logits, logits + n) - logits);
    std::vector<std::pair<double, int32_t>> candidates;
    for (int64_t i = 0; i < n; ++i) candidates.emplace_back(logits[i] / s.temperature, static_cast<int32_t>(i));
    std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
    if (s.top_k > 0 && static_cast<size_t>(s.top_k) < candidates.size()) candidates.resize(static_cast<size_t>(s.top_k));
    double sum = 0;
    const double top = candidates.front().first;
    for (auto& [weight, id] : candidates) sum += weight = std::exp(weight - top);
    double kept = 0;
    size_t count = 0;
    while (count < candidates.size() && kept < s.top_p * sum) kept += candidates[count++].first;
    double draw = static_cast<double>(uniform_draw({static_cast<uint64_t>(s.seed), 0}, 0x67656e, position)) * kept;
    for (size_t i = 0; i < count; ++i)
        if ((draw -= candidates[i].first) < 0) return candidates[i].second;
    return candidates[count - 1].second;
}

}  // namespace

Result<std::vector<int32_t>> Engine::generate(std::span<const int32_t> prompt, std::string_view options_json, const std::function<int(std::span<const int32_t>)>& on_token) {
    DS_CHECK(usable());
    if (!model_ || model_->task != Task::causal_lm) return fail(Code::E_UNSUPPORTED, "ds_generate: needs a causal language model");
    if (prompt.empty()) return fail(Code::E_INVALID_ARGUMENT, "ds_generate: the prompt is empty; give at least one id");
    DS_TRY(const Sampling s, sampling_of(options_json, model_config_));
    std::vector<int32_t> ids(prompt.begin(), prompt.end());
    const auto saved = std::exchange(eval_outputs_, {"logits"});
    Status status;
    while (static_cast<int64_t>(ids.size() - prompt.size()) < s.max_new_tokens) {
        // A row longer than the model's positions goes on with its end.
        const size_t limit = model_->max_positions ? static_cast<size_t>(model_->max_positions) : ids.size(), begin = ids.size() > limit ? ids.size() - limit : 0;
        const auto window = std::span(ids).subspan(begin);
        const auto padded = static_cast<size_t>(std::min<int64_t>(bucket(static_cast<int64_t>(window.size())), static_cast<int64_t>(std::max(limit, window.size()))));
        HostTensor row = HostTensor::zeros(DType::i32, {1, static_cast<int64_t>(padded)}), mask = HostTensor::zeros(DType::u8, {1, static_cast<int64_t>(padded)});
        std::copy(window.begin(), window.end(), row.as<int32_t>().begin());
        std::fill_n(mask.as<uint8_t>().begin(), window.size(), uint8_t{1});
        if (status = eval({{"input_ids", row}, {"attention_mask", mask}}, nullptr); !status.ok()) break;
        auto logits = output("logits");
        if (!logits.ok()) {
            status = std::move(logits).status();
            break;
        }
        const int32_t next = pick(logits->as<float>().data() + static_cast<int64_t>(window.size() - 1) * model_->vocabulary, model_->vocabulary, s, ids.size());
        ids.push_back(next);
        if (on_token) {
            const int answer = on_token(std::span(&ids.back(), 1));
            if (answer < 0) status = fail(Code::E_USER, "ds_generate: the token callback answered {}", answer);
            if (answer != 0) break;
        }
        if (std::find(s.stop.begin(), s.stop.end(), next) != s.stop.end()) break;
    }
    eval_outputs_ = saved;
    last_.reset();
    DS_CHECK(status);
    return std::vector<int32_t>(ids.begin() + static_cast<int64_t>(prompt.size()), ids.end());
}

}  // namespace ds
