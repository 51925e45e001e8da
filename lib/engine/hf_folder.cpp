#include "engine/hf_folder.h"

#include <algorithm>

#include "base/file.h"

namespace ds {

Result<ModelSource> read_model_source(const Json& model, const Json& overrides) {
    ModelSource source;
    if (model.is_object()) source.config = model;
    else {
        source.folder = model.get<std::string>();
        if (!std::filesystem::is_directory(source.folder))
            return fail(Code::E_NOT_FOUND,
                        "config: model: {} is not a folder; it must be a Hugging Face folder with config.json, such an object, or a "
                        "graph's .ds file",
                        source.folder.string());
        const auto path = source.folder / "config.json";
        DS_TRY(const std::string text, read_file(path, size_t{16} << 20));
        DS_TRY(source.config, parse_json(text, path.string()));
    }
    if (!source.config.is_object()) return fail(Code::E_CORRUPT, "{}: must hold an object", (source.folder / "config.json").string());
    source.config.update(overrides);
    return source;
}

bool has_weights(const std::filesystem::path& folder) {
    for (const char* name : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"})
        if (std::filesystem::exists(folder / name)) return true;
    return false;
}

std::vector<std::string> names_in(const WeightFolder& folder, const std::string& name, const TensorNames& names) {
    std::vector<std::string> candidates{name}, found;
    if (const auto others = names.others.find(name); others != names.others.end())
        candidates.insert(candidates.end(), others->second.begin(), others->second.end());
    // As BERT's first folders have it.
    if (constexpr std::string_view scale = "LayerNorm.weight", shift = "LayerNorm.bias"; name.ends_with(scale))
        candidates.push_back(name.substr(0, name.size() - scale.size()) + "LayerNorm.gamma");
    else if (name.ends_with(shift)) candidates.push_back(name.substr(0, name.size() - shift.size()) + "LayerNorm.beta");
    for (const std::string& candidate : candidates) {
        const bool has_prefix = candidate.starts_with(names.base_prefix);
        for (const std::string& spelled :
             {candidate, has_prefix ? candidate.substr(names.base_prefix.size()) : candidate, names.base_prefix + candidate})
            if (folder.find(spelled)) {
                found.push_back(spelled);
                break;
            }
    }
    return found;
}

bool same_values(const TensorView& a, const TensorView& b) {
    return a.dtype == b.dtype && a.shape == b.shape && std::ranges::equal(a.data, b.data);
}

}  // namespace ds
