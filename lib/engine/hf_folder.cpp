#include "engine/hf_folder.h"

#include "base/file.h"

namespace ds {

Result<ModelSource> read_model_source(const Json& model, const Json& overrides) {
    ModelSource source;
    if (model.is_object()) source.config = model;
    else {
        source.folder = model.get<std::string>();
        if (!std::filesystem::is_directory(source.folder))
            return fail(Code::E_NOT_FOUND, "config: model: {} is not a folder; it must be a Hugging Face folder with config.json, such an object, or a graph's .ds file", source.folder.string());
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

}  // namespace ds
