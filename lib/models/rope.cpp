#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ds::models {
namespace {

constexpr double kTau = 2 * std::numbers::pi;

// Llama 3.1: long wavelengths are slowed by `factor`, short ones kept, between them a smooth passage.
void scale_llama3(Fields& f, std::vector<double>& inv_freq) {
    const double factor = f.number("factor"), low = f.number("low_freq_factor"), high = f.number("high_freq_factor");
    const double original = f.number("original_max_position_embeddings");
    for (double& w : inv_freq) {
        const double wavelength = kTau / w;
        if (wavelength > original / low) w /= factor;
        else if (wavelength >= original / high) {
            const double smooth = (original / wavelength - low) / (high - low);
            w = (1 - smooth) * w / factor + smooth * w;
        }
    }
}

// Peng et al. 2023 (arXiv 2309.00071).
double scale_yarn(Fields& f, std::vector<double>& inv_freq, double theta, int64_t head_dim, int64_t max_positions) {
    const double original = f.number("original_max_position_embeddings", static_cast<double>(max_positions));
    const double factor = f.has("factor") ? f.number("factor") : static_cast<double>(max_positions) / original;
    const double fast = f.number("beta_fast", 32), slow = f.number("beta_slow", 1), dim = static_cast<double>(head_dim);
    const auto correction = [&](double rotations) { return dim * std::log(original / (rotations * kTau)) / (2 * std::log(theta)); };
    double low = correction(fast), high = correction(slow);
    if (f.boolean("truncate", true)) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1);
    if (low == high) high += 0.001;
    for (size_t i = 0; i < inv_freq.size(); ++i) {
        const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        inv_freq[i] = inv_freq[i] / factor * ramp + inv_freq[i] * (1 - ramp);
    }
    const auto mscale = [](double scale, double m) { return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1; };
    if (f.has("attention_factor")) return f.number("attention_factor");
    const double m = f.number("mscale", 0), all = f.number("mscale_all_dim", 0);
    return m != 0 && all != 0 ? mscale(factor, m) / mscale(factor, all) : mscale(factor, 1);
}

// Ding et al. 2024 (arXiv 2402.13753): a factor for each frequency. Returns the factor of cos and sin.
double scale_longrope(Fields& f, std::vector<double>& inv_freq, int64_t max_positions) {
    const Json factors = f.json().value("short_factor", Json());
    const auto good = [](const Json& x) { return x.is_number(); };
    if (!factors.is_array() || factors.size() != inv_freq.size() || !std::all_of(factors.begin(), factors.end(), good)) {
        f.refuse(fail(Code::E_CONFIG, "config.json: short_factor must be a list of {} numbers, not {}", inv_freq.size(), factors.dump()));
        return 1;
    }
    for (size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] /= factors[i].get<double>();
    const double original = f.number("original_max_position_embeddings"),
                 factor = f.number("factor", static_cast<double>(max_positions) / original);
    return f.number("attention_factor", factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original)));
}

// The object that holds the parameters: transformers takes rope_scaling where a folder has both.
Result<Json> parameters_of(const Json& config) {
    Json parameters = Json::object();
    for (const char* key : {"rope_parameters", "rope_scaling"}) {
        const Json given = config.value(key, Json());
        if (given.is_null() || given.empty()) continue;
        if (!given.is_object()) return fail(Code::E_CONFIG, "config.json: {} must be an object, not {}", key, given.dump());
        for (const auto& [name, value] : given.items())
            if (value.is_object())
                return fail(Code::E_UNSUPPORTED, "config.json: {}: {}: angles of their own for some layers are not built", key, name);
        parameters = given;
    }
    if (!parameters.contains("rope_type")) parameters["rope_type"] = parameters.value("type", Json("default"));
    return parameters;
}

}  // namespace

Result<RopeAngles> read_rope(Model& m, const Json& config, int64_t head_dim, int64_t max_positions, const RopeDefaults& defaults) {
    Fields top(config);
    DS_TRY(Json parameters, parameters_of(config));
    // What a row may have been before it was stretched. Phi's folders have it beside the other fields, which wins.
    if (top.has("original_max_position_embeddings"))
        parameters["original_max_position_embeddings"] = config["original_max_position_embeddings"];
    else if (!Fields(parameters).has("original_max_position_embeddings")) parameters["original_max_position_embeddings"] = max_positions;
    Fields f(parameters);
    const double theta = f.number("rope_theta", top.number("rope_theta", defaults.theta));
    const double partial = defaults.partial ? f.number("partial_rotary_factor", top.number("partial_rotary_factor", *defaults.partial)) : 1;
    const std::string type = f.text("rope_type", "default");
    const auto rotated = static_cast<int64_t>(static_cast<double>(head_dim) * partial);
    RopeAngles angles;
    for (int64_t i = 0; i < (rotated + 1) / 2; ++i)
        angles.inv_freq.push_back(1 / std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(rotated)));
    int64_t limit = 0;
    if (type == "linear") {
        const double factor = f.number("factor");
        for (double& w : angles.inv_freq) w /= factor;
    } else if (type == "llama3") scale_llama3(f, angles.inv_freq);
    else if (type == "yarn") angles.scale = scale_yarn(f, angles.inv_freq, theta, rotated, max_positions);
    else if (type == "dynamic") limit = max_positions;  // up to there those of "default"
    else if (type == "longrope")
        angles.scale = scale_longrope(f, angles.inv_freq, max_positions), limit = f.integer("original_max_position_embeddings");
    else if (type != "default")
        return fail(Code::E_UNSUPPORTED,
                    "config.json: rope_type \"{}\" is not built; there are default, linear, llama3, yarn, dynamic and longrope", type);
    DS_CHECK(top.status());
    DS_CHECK(f.status());
    if (rotated < 2 || theta <= 0)
        return fail(Code::E_CONFIG, "config.json: rope needs a head of 2 or more rotated columns and a positive rope_theta, not {} and {}",
                    rotated, theta);
    m.max_positions = limit;
    if (limit) m.limit = fmt::format("config.json: rope_type \"{}\" beyond {} positions is not built", type, limit);
    return angles;
}

}  // namespace ds::models
