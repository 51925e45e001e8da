// Writing safetensors, alone and as the weights of a folder.
#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "base/json.h"
#include "ckpt/durable_file.h"
#include "ckpt/safetensors.h"

namespace ds {
namespace {

constexpr std::string_view kSingle = "model.safetensors", kIndex = "model.safetensors.index.json";

size_t rank_of(DType type) {
    const auto at =
        std::find_if(std::begin(kSafetensorsTypes), std::end(kSafetensorsTypes), [&](const SafetensorsType& t) { return t.dtype == type; });
    return static_cast<size_t>(at - std::begin(kSafetensorsTypes));
}

struct Placed {
    const NamedTensor* tensor;
    uint64_t begin, bytes;
};

// The tensors in the file's order, with their places in the data.
Result<std::vector<Placed>> place_tensors(std::span<const NamedTensor> tensors) {
    std::vector<Placed> placed;
    std::set<std::string_view> names;
    for (const NamedTensor& t : tensors) {
        DS_REQUIRE(!t.name.empty() && t.name != "__metadata__", "tensor \"{}\": the format has no place for this name", t.name);
        DS_REQUIRE(names.insert(t.name).second, "tensor {}: appears twice", shown(t.name));
        Result<int64_t> count = checked_elements(t.shape);
        if (!count.ok()) return std::move(count).status().within(fmt::format("tensor {}", shown(t.name)));
        const uint64_t bytes = static_cast<uint64_t>(count.value()) * static_cast<uint64_t>(size_of(t.dtype));
        DS_REQUIRE(bytes == 0 || t.data || t.source, "tensor {}: neither data nor a source", shown(t.name));
        placed.push_back({&t, 0, bytes});
    }
    std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
        const size_t x = rank_of(a.tensor->dtype), y = rank_of(b.tensor->dtype);
        return x != y ? x < y : a.tensor->name < b.tensor->name;
    });
    uint64_t end = 0;
    for (Placed& p : placed) {
        p.begin = end;
        DS_REQUIRE(!__builtin_add_overflow(end, p.bytes, &end), "the tensors take more bytes than can be addressed");
    }
    return placed;
}

Result<std::string> quoted(const std::string& text) {
    try {
        return Json(text).dump();
    } catch (const Json::exception&) { return fail(Code::E_INVALID_ARGUMENT, "\"{}\": is not UTF-8", shown(text)); }
}

Result<std::string> header_text(const std::vector<Placed>& placed, const Metadata& metadata) {
    std::string text = "{";
    const char* comma = "";
    if (!metadata.empty()) {
        text += "\"__metadata__\":{";
        for (const auto& [key, value] : metadata) {
            DS_TRY(const std::string k, quoted(key));
            DS_TRY(const std::string v, quoted(value));
            text += fmt::format("{}{}:{}", comma, k, v);
            comma = ",";
        }
        text += '}';
    }
    for (const Placed& p : placed) {
        DS_TRY(const std::string name, quoted(p.tensor->name));
        text += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}", comma, name,
                            kSafetensorsTypes[rank_of(p.tensor->dtype)].name, p.tensor->shape, p.begin, p.begin + p.bytes);
        comma = ",";
    }
    text += '}';
    text.append((8 - text.size() % 8) % 8, ' ');  // so that the data, and thereby every element, is aligned
    return text;
}

Status append_tensor(DurableFile& file, const Placed& p) {
    if (p.tensor->data || p.bytes == 0) return file.append(std::span(static_cast<const std::byte*>(p.tensor->data), p.bytes));
    uint64_t written = 0;
    DS_CHECK(p.tensor->source([&](std::span<const std::byte> bytes) -> Status {
        written += bytes.size();
        if (written > p.bytes)
            return fail(Code::E_INTERNAL, "{}: tensor {}: its source gave more than {} bytes", file.path().string(), p.tensor->name,
                        p.bytes);
        return file.append(bytes);
    }));
    if (written != p.bytes)
        return fail(Code::E_INTERNAL, "{}: tensor {}: its source gave {} of {} bytes", file.path().string(), p.tensor->name, written,
                    p.bytes);
    return ok();
}

// Tensors in the given order, a new shard where the next one would exceed the limit; a tensor above the limit has a shard of its own.
std::vector<std::vector<NamedTensor>> into_shards(std::span<const NamedTensor> tensors, int64_t limit) {
    std::vector<std::vector<NamedTensor>> shards;
    int64_t filled = 0;
    for (const NamedTensor& t : tensors) {
        const int64_t bytes = elements(t.shape) * size_of(t.dtype);
        if (shards.empty() || (filled > 0 && bytes > limit - filled)) {
            shards.emplace_back();
            filled = 0;
        }
        shards.back().push_back(t);
        filled += bytes;
    }
    return shards;
}

// model.safetensors, its index, or model-00001-of-00002.safetensors
bool is_weights_file(std::string_view name) {
    constexpr std::string_view kPattern = "model-#####-of-#####.safetensors";
    if (name == kSingle || name == kIndex) return true;
    return std::equal(name.begin(), name.end(), kPattern.begin(), kPattern.end(),
                      [](char c, char p) { return p == '#' ? c >= '0' && c <= '9' : c == p; });
}

// Weight files in the folder other than those named.
Status remove_weights_except(const std::filesystem::path& folder, const std::set<std::string>& keep) {
    std::error_code error;
    std::vector<std::filesystem::path> stale;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error))
        if (const std::string name = entry.path().filename().string(); is_weights_file(name) && !keep.contains(name))
            stale.push_back(entry.path());
    for (const std::filesystem::path& path : stale)
        if (!std::filesystem::remove(path, error) && error)
            return fail(Code::E_IO, "{}: cannot remove: {}", path.string(), error.message());
    return stale.empty() ? ok() : sync_folder(folder);
}

}  // namespace

Status stream_safetensors(DurableFile& file, std::span<const NamedTensor> tensors, const Metadata& metadata) {
    const std::string place = file.path().string();
    Result<std::vector<Placed>> placed = place_tensors(tensors);
    if (!placed.ok()) return std::move(placed).status().within(place);
    Result<std::string> header = header_text(*placed, metadata);
    if (!header.ok()) return std::move(header).status().within(place);
    uint64_t length = header->size();
    static_assert(std::endian::native == std::endian::little, "the data of a safetensors file is little-endian");
    DS_CHECK(file.append(std::as_bytes(std::span(&length, 1))));
    DS_CHECK(file.append(*header));
    for (const Placed& p : *placed) DS_CHECK(append_tensor(file, p));
    return ok();
}

Status write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors, const Metadata& metadata) {
    DS_TRY(DurableFile file, DurableFile::create(path));
    DS_CHECK(stream_safetensors(file, tensors, metadata));
    return file.commit();
}

Status write_weights(const std::filesystem::path& folder, std::span<const NamedTensor> tensors, int64_t shard_bytes,
                     const Metadata& metadata) {
    DS_REQUIRE(shard_bytes > 0, "the size of a shard is {} bytes; it must be positive", shard_bytes);
    int64_t total = 0;
    for (const NamedTensor& t : tensors) {
        DS_TRY(const int64_t count, checked_elements(t.shape));
        DS_REQUIRE(!__builtin_add_overflow(total, count * size_of(t.dtype), &total), "the tensors take more bytes than can be addressed");
    }
    if (total <= shard_bytes) {
        DS_CHECK(write_safetensors(folder / kSingle, tensors, metadata));
        return remove_weights_except(folder, {std::string(kSingle)});
    }
    const std::vector<std::vector<NamedTensor>> shards = into_shards(tensors, shard_bytes);
    std::vector<DurableFile> files;
    Json map = Json::object();
    for (size_t i = 0; i < shards.size(); ++i) {
        const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
        DS_TRY(DurableFile file, DurableFile::create(folder / name));
        DS_CHECK(stream_safetensors(file, shards[i], metadata));
        DS_CHECK(file.finish());
        files.push_back(std::move(file));
        for (const NamedTensor& t : shards[i]) {
            DS_REQUIRE(!map.contains(t.name), "tensor {}: appears twice", shown(t.name));
            map[t.name] = name;
        }
    }
    // From here to the last line the folder holds no index, so a crash can't leave one that mixes old shards with new ones.
    DS_CHECK(remove_weights_except(folder, {}));
    for (DurableFile& file : files) DS_CHECK(file.commit());
    return write_durably(folder / kIndex, Json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2) + "\n");
}

}  // namespace ds
