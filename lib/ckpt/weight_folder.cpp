#include "ckpt/weight_folder.h"

#include "base/json.h"
#include "ckpt/durable_file.h"

namespace ds {
namespace {

constexpr const char *kSingle = "model.safetensors", *kIndex = "model.safetensors.index.json";
constexpr size_t kMaxIndexBytes = 100'000'000;
constexpr const char* kPickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth", "tf_model.h5",
                                    "flax_model.msgpack"};

bool is_there(const std::filesystem::path& path) {
    std::error_code error;
    return std::filesystem::exists(path, error);
}

// The index's table: tensor -> shard.
Result<Json> weight_map_of(const std::filesystem::path& index) {
    DS_TRY(const std::string text, read_file(index, kMaxIndexBytes));
    DS_TRY(Json parsed, parse_json(text, index.string()));
    if (!parsed.is_object() || !parsed.contains("weight_map") || !parsed["weight_map"].is_object())
        return fail(Code::E_CORRUPT, "{}: has no object \"weight_map\"", index.string());
    for (const auto& [tensor, shard] : parsed["weight_map"].items()) {
        if (!shard.is_string())
            return fail(Code::E_CORRUPT, "{}: weight_map: {}: is not the name of a file", index.string(), shown(tensor));
        const std::string& name = shard.get_ref<const std::string&>();
        if (!is_plain_name(name) || !name.ends_with(".safetensors")) {
            return fail(Code::E_CORRUPT,
                        "{}: weight_map: {}: \"{}\" is not acceptable; the name of a .safetensors file in the same folder is",
                        index.string(), shown(tensor), shown(name));
        }
    }
    return std::move(parsed["weight_map"]);
}

}  // namespace

bool WeightFolder::has_weights(const std::filesystem::path& folder) { return is_there(folder / kSingle) || is_there(folder / kIndex); }

Result<WeightFolder> WeightFolder::open(const std::filesystem::path& folder) {
    WeightFolder result;
    if (is_there(folder / kSingle)) {
        DS_TRY(SafetensorsFile file, SafetensorsFile::open(folder / kSingle));
        result.files_.push_back(std::move(file));
        for (const TensorView& view : result.files_.back().tensors()) result.tensors_.emplace(view.name, &view);
        return result;
    }
    if (is_there(folder / kIndex)) {
        DS_CHECK(result.open_shards(folder));
        return result;
    }
    for (const char* pickle : kPickles) {
        if (!is_there(folder / pickle)) continue;
        return fail(Code::E_UNSUPPORTED,
                    "{}: only safetensors weights are read, because other formats can run code; convert the folder, for example with "
                    "transformers: AutoModel.from_pretrained(...).save_pretrained(..., safe_serialization=True)",
                    (folder / pickle).string());
    }
    return fail(Code::E_NOT_FOUND, "{}: holds neither {} nor {}", folder.string(), kSingle, kIndex);
}

Status WeightFolder::open_shards(const std::filesystem::path& folder) {
    const std::string index = (folder / kIndex).string();
    DS_TRY(const Json weight_map, weight_map_of(folder / kIndex));
    std::map<std::string, size_t> shards;
    for (const auto& [tensor, shard] : weight_map.items()) {
        const std::string& name = shard.get_ref<const std::string&>();
        if (!shards.emplace(name, files_.size()).second) continue;
        Result<SafetensorsFile> file = SafetensorsFile::open(folder / name);
        if (!file.ok()) return std::move(file).status().within(fmt::format("{}: weight_map: {}", index, shown(tensor)));
        files_.push_back(std::move(file).value());
    }
    for (const auto& [tensor, shard] : weight_map.items()) {
        const std::string& name = shard.get_ref<const std::string&>();
        const TensorView* view = files_[shards.at(name)].find(tensor);
        if (!view) return fail(Code::E_CORRUPT, "{}: tensor {}: its shard {} does not hold it", index, shown(tensor), name);
        tensors_.emplace(view->name, view);
    }
    return ok();
}

const TensorView* WeightFolder::find(std::string_view name) const {
    const auto at = tensors_.find(name);
    return at == tensors_.end() ? nullptr : at->second;
}

std::vector<std::string_view> WeightFolder::names() const {
    std::vector<std::string_view> names;
    for (const auto& [name, view] : tensors_) names.push_back(name);
    return names;
}

}  // namespace ds
