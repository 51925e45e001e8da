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

}  // namespace

Result<RopeAngles> rope_angles_of(const Json& config, int64_t head_dim, int64_t max_positions, const RopeDefaults& defaults) {
    Fields top(config);
    Json parameters = Json::object();
    for (const char* key : {"rope_scaling", "rope_parameters"})
        if (top.has(key)) {
            if (!config[key].is_object()) return fail(Code::E_CONFIG, "config.json: {} must be an object, not {}", key, config[key].dump());
            parameters.update(config[key]);
        }
    if (!parameters.contains("rope_type") && parameters.contains("type")) parameters["rope_type"] = parameters["type"];
    Fields f(parameters);
    const double theta = f.number("rope_theta", top.number("rope_theta", defaults.theta));
    const double partial = f.number("partial_rotary_factor", top.number("partial_rotary_factor", defaults.partial));
    const std::string type = f.text("rope_type", "default");
    const auto rotated = static_cast<int64_t>(static_cast<double>(head_dim) * partial);
    RopeAngles angles;
    for (int64_t i = 0; i < (rotated + 1) / 2; ++i) angles.inv_freq.push_back(1 / std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(rotated)));
    if (type == "linear") {
        const double factor = f.number("factor");
        for (double& w : angles.inv_freq) w /= factor;
    } else if (type == "llama3") scale_llama3(f, angles.inv_freq);
    else if (type == "yarn") angles.scale = scale_yarn(f, angles.inv_freq, theta, rotated, max_positions);
    else if (type != "default") return fail(Code::E_UNSUPPORTED, "config.json: rope_type \"{}\" is not built; there are default, linear, llama3 and yarn", type);
    DS_CHECK(top.status());
    DS_CHECK(f.status());
    if (rotated < 2 || theta <= 0) return fail(Code::E_CONFIG, "config.json: rope needs a head of 2 or more rotated columns and a positive rope_theta, not {} and {}", rotated, theta);
    return angles;
}

}  // namespace ds::models
