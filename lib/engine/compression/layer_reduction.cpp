#include "engine/compression/layer_reduction.h"

#include <algorithm>

namespace ds {
namespace {

const std::string kSection = "config: compression_training.layer_reduction";

Status refuse(const char* key, const std::string& what) { return fail(Code::E_CONFIG, "{}.{}: {}", kSection, key, what); }

}  // namespace

Result<LayerReduction> LayerReduction::read(const Json& compression, Json& model_config) {
    LayerReduction reduction;
    const Json section = compression.is_null() ? Json::object() : compression.value("layer_reduction", Json::object());
    if (section.value("enabled", Json(false)) != true) return reduction;
    const Json layers = section.value("teacher_layer", Json::array()), keep = section.value("keep_number_layer", Json()),
               prefix = section.value("module_name_prefix", Json());
    const char* key = model_config.contains("num_hidden_layers") ? "num_hidden_layers" : "n_layer";
    const Json all = model_config.value(key, Json());
    if (!all.is_number_integer())
        return fail(Code::E_UNSUPPORTED,
                    "{}: config.json has neither num_hidden_layers nor n_layer, so the layers of a {} can't be reduced", kSection,
                    model_config.value("model_type", "model"));
    if (!layers.is_array() || layers.empty() ||
        !std::all_of(layers.begin(), layers.end(), [&](const Json& x) { return x.is_number_integer() && x >= 0 && x < all; }))
        return refuse("teacher_layer", fmt::format("must be a list of layers from 0 to {}, is {}", all.get<int64_t>() - 1, layers.dump()));
    if (keep.is_number() && keep != layers.size())
        return refuse("keep_number_layer", fmt::format("is {}, but teacher_layer has {} entries", keep.dump(), layers.size()));
    if (!prefix.is_string()) return refuse("module_name_prefix", "needed: what layers' names begin with, as \"bert.encoder.layer\"");
    reduction.layers_ = layers.get<std::vector<int64_t>>();
    reduction.prefix_ = prefix.get<std::string>() + ".";
    for (const Json& other : section.value("other_module_name", Json::array()))
        if (other.is_string()) reduction.others_.push_back(other);
    for (const char* list : {"layer_types", "attention_layers"})  // an entry a layer
        if (model_config.contains(list) && model_config[list].is_array() && model_config[list].size() == all) {
            Json kept = Json::array();
            for (const int64_t layer : reduction.layers_) kept.push_back(model_config[list][static_cast<size_t>(layer)]);
            model_config[list] = kept;
        }
    model_config[key] = reduction.layers_.size();
    return reduction;
}

std::optional<std::string> LayerReduction::name_in_teacher(const std::string& name) const {
    if (layers_.empty()) return name;
    if (name.starts_with(prefix_)) {
        const size_t dot = name.find('.', prefix_.size());
        const std::string number = name.substr(prefix_.size(), dot - prefix_.size());
        if (dot != name.npos && !number.empty() && number.find_first_not_of("0123456789") == number.npos &&
            static_cast<size_t>(std::stoul(number)) < layers_.size())
            return prefix_ + std::to_string(layers_[std::stoul(number)]) + name.substr(dot);
    }
    if (std::any_of(others_.begin(), others_.end(),
                    [&](const std::string& other) { return name == other || name.starts_with(other + "."); }))
        return name;
    return std::nullopt;
}

}  // namespace ds
