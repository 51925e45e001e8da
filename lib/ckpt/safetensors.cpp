#include "ckpt/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "base/json.h"
#include "ckpt/durable_file.h"

namespace ds {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference's cap
constexpr size_t kMaxRank = 64;
constexpr std::string_view kMetadataKey = "__metadata__";

struct Entry {
    std::string name;
    std::optional<std::string> dtype;
    std::optional<std::vector<uint64_t>> shape, offsets;
};

// Takes the events of the header's parse and accepts exactly the format's grammar, so that hostile JSON ends at its first wrong
// event instead of becoming a tree.
class HeaderReader : public nlohmann::json_sax<Json> {
public:
    std::vector<Entry> entries;
    Metadata metadata;
    std::string fault;

    bool start_object(size_t) override {
        if (place_ == Place::start) place_ = Place::top;
        else if (place_ == Place::top && key_ == kMetadataKey) place_ = Place::metadata;
        else if (place_ == Place::top) {
            place_ = Place::tensor;
            entries.push_back({.name = key_, .dtype = {}, .shape = {}, .offsets = {}});
        } else return refuse("an object");
        return true;
    }
    bool end_object() override {
        place_ = place_ == Place::top ? Place::end : Place::top;
        return true;
    }
    bool key(std::string& name) override {
        key_ = name;
        if (place_ == Place::top && !names_.insert(name).second) return refuse_because("key {} appears twice", shown(name));
        if (place_ == Place::metadata && metadata.contains(name))
            return refuse_because("{}: key {} appears twice", kMetadataKey, shown(name));
        if (place_ == Place::tensor && name != "dtype" && name != "shape" && name != "data_offsets")
            return refuse_because("tensor {}: unknown field {}", shown(entries.back().name), shown(name));
        return true;
    }
    bool start_array(size_t) override {
        if (place_ != Place::tensor || (key_ != "shape" && key_ != "data_offsets")) return refuse("a list");
        place_ = Place::list;
        std::optional<std::vector<uint64_t>>& list = list_of_key();
        if (list) return refuse_because("tensor {}: {} appears twice", shown(entries.back().name), key_);
        list.emplace();
        return true;
    }
    bool end_array() override {
        place_ = Place::tensor;
        return true;
    }
    bool string(std::string& text) override {
        if (place_ == Place::metadata) return metadata[key_] = text, true;
        if (place_ != Place::tensor || key_ != "dtype") return refuse("a text");
        if (entries.back().dtype) return refuse_because("tensor {}: dtype appears twice", shown(entries.back().name));
        entries.back().dtype = text;
        return true;
    }
    bool number_unsigned(uint64_t value) override {
        if (place_ != Place::list) return refuse("a number");
        std::vector<uint64_t>& list = *list_of_key();
        if (list.size() == (key_ == "shape" ? kMaxRank : 2))
            return refuse_because("tensor {}: {} is too long", shown(entries.back().name), key_);
        list.push_back(value);
        return true;
    }
    bool null() override { return refuse("null"); }
    bool boolean(bool) override { return refuse("a boolean"); }
    bool number_integer(int64_t value) override { return refuse(fmt::format("the number {}", value)); }
    bool number_float(double, const std::string& text) override { return refuse(fmt::format("the number {}", shown(text))); }
    bool binary(Json::binary_t&) override { return refuse("binary data"); }
    bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
        std::string_view what = error.what();
        if (const size_t end = what.find("] "); end != what.npos) what.remove_prefix(end + 2);
        return refuse_because("{}", shown(what));
    }

private:
    enum class Place { start, top, metadata, tensor, list, end };

    std::optional<std::vector<uint64_t>>& list_of_key() { return key_ == "shape" ? entries.back().shape : entries.back().offsets; }

    template <class... Args>
    bool refuse_because(fmt::format_string<Args...> format, Args&&... args) {
        fault = fmt::format(format, std::forward<Args>(args)...);
        return false;
    }
    bool refuse(std::string_view found) {
        if (place_ == Place::start) return refuse_because("is {}, not an object", found);
        if (place_ == Place::metadata)
            return refuse_because("{}: key {}: is {}, only texts may stand here", kMetadataKey, shown(key_), found);
        if (place_ == Place::tensor || place_ == Place::list)
            return refuse_because("tensor {}: {}: {} can't stand here", shown(entries.back().name), key_, found);
        return refuse_because("key {}: is {}, not an object", shown(key_), found);
    }

    Place place_ = Place::start;
    std::string key_;
    std::unordered_set<std::string> names_;
};

// The header's text, once its length is known to lie within the file.
Result<std::string_view> header_of(std::string_view file, const std::string& place) {
    if (file.size() < 8)
        return fail(Code::E_CORRUPT, "{}: {} bytes, too short for the 8 bytes that give the header's length", place, file.size());
    uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(file[static_cast<size_t>(i)]);
    if (length > kMaxHeaderBytes)
        return fail(Code::E_CORRUPT, "{}: header of {} bytes, at most {} are accepted", place, length, kMaxHeaderBytes);
    if (length > file.size() - 8)
        return fail(Code::E_CORRUPT, "{}: header of {} bytes ends past the file ({} bytes)", place, length, file.size());
    const std::string_view header = file.substr(8, length);
    if (header.empty() || header.front() != '{') return fail(Code::E_CORRUPT, "{}: header: does not begin with an opening brace", place);
    return header;
}

Result<DType> dtype_of(const std::string& name) {
    std::string known;
    for (const SafetensorsType& type : kSafetensorsTypes) {
        if (type.name == name) return type.dtype;
        known += fmt::format("{}{}", known.empty() ? "" : ", ", type.name);
    }
    return fail(Code::E_UNSUPPORTED, "dtype {} is not supported; {} are", shown(name), known);
}

// One tensor against the file. `begin` is the position of the data in the file; messages give positions in the file.
Result<TensorView> view_of(Entry&& entry, std::span<const std::byte> file, uint64_t begin) {
    for (const char* missing : {entry.dtype ? nullptr : "dtype", entry.shape ? nullptr : "shape", entry.offsets ? nullptr : "data_offsets"})
        if (missing) return fail(Code::E_CORRUPT, "has no {}", missing);
    if (entry.offsets->size() != 2) return fail(Code::E_CORRUPT, "data_offsets has {} numbers, not 2", entry.offsets->size());
    TensorView view;
    DS_TRY(view.dtype, dtype_of(*entry.dtype));
    for (const uint64_t d : *entry.shape) {
        if (d > uint64_t{1} << 60) return fail(Code::E_CORRUPT, "dimension {} is more than can be addressed", d);
        view.shape.push_back(static_cast<int64_t>(d));
    }
    const Result<int64_t> count = checked_elements(view.shape);
    if (!count.ok()) return fail(Code::E_CORRUPT, "{}", count.status().message());
    const uint64_t bytes = static_cast<uint64_t>(count.value()) * static_cast<uint64_t>(size_of(view.dtype));

    using Wide = unsigned __int128;
    const uint64_t first = (*entry.offsets)[0], last = (*entry.offsets)[1];
    const auto at = [&](uint64_t offset) { return Wide{begin} + offset; };
    if (first > last) return fail(Code::E_CORRUPT, "byte range {}..{} ends before it begins", at(first), at(last));
    if (at(last) > file.size())
        return fail(Code::E_CORRUPT, "byte range {}..{} ends past the file ({} bytes)", at(first), at(last), file.size());
    if (last - first != bytes)
        return fail(Code::E_CORRUPT, "byte range {}..{} holds {} bytes, {} {} takes {}", at(first), at(last), last - first, *entry.dtype,
                    view.shape, bytes);
    view.data = file.subspan(begin + first, bytes);
    view.name = std::move(entry.name);
    return view;
}

// Sorted views must follow each other without gap or overlap up to the end of the file. Empty tensors may share a position.
Status check_tiling(const std::vector<TensorView>& sorted, std::span<const std::byte> file, uint64_t begin) {
    uint64_t end = begin;
    const TensorView* previous = nullptr;
    for (const TensorView& view : sorted) {
        const uint64_t first = static_cast<uint64_t>(view.data.data() - file.data());
        if (first < end) {
            return fail(Code::E_CORRUPT, "tensor {}: byte range {}..{} overlaps tensor {}, which ends at {}", shown(view.name), first,
                        first + view.data.size(), shown(previous->name), end);
        }
        if (first > end) return fail(Code::E_CORRUPT, "bytes {}..{}, before tensor {}, belong to no tensor", end, first, shown(view.name));
        end = first + view.data.size();
        previous = &view;
    }
    if (end != file.size()) return fail(Code::E_CORRUPT, "bytes {}..{}, at the end of the file, belong to no tensor", end, file.size());
    return ok();
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
    DS_TRY(MappedFile mapped, MappedFile::open(path));
    return parse(std::move(mapped), path.string());
}

Result<SafetensorsFile> SafetensorsFile::parse(MappedFile mapped, const std::string& place) {
    SafetensorsFile result(std::move(mapped));
    DS_TRY(const std::string_view header, header_of(result.file_.text(), place));
    HeaderReader reader;
    if (!Json::sax_parse(header.begin(), header.end(), &reader)) return fail(Code::E_CORRUPT, "{}: header: {}", place, reader.fault);

    const std::span<const std::byte> file = result.file_.bytes();
    const uint64_t begin = 8 + header.size();
    for (Entry& entry : reader.entries) {
        const std::string name = shown(entry.name);
        Result<TensorView> view = view_of(std::move(entry), file, begin);
        if (!view.ok()) return std::move(view).status().within(fmt::format("{}: tensor {}", place, name));
        result.tensors_.push_back(std::move(view).value());
    }
    std::stable_sort(result.tensors_.begin(), result.tensors_.end(), [](const TensorView& a, const TensorView& b) {
        return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
    });
    if (Status tiled = check_tiling(result.tensors_, file, begin); !tiled.ok()) return std::move(tiled).within(place);
    for (size_t i = 0; i < result.tensors_.size(); ++i) result.index_.emplace(result.tensors_[i].name, i);
    result.metadata_ = std::move(reader.metadata);
    return result;
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
    const auto at = index_.find(name);
    return at == index_.end() ? nullptr : &tensors_[at->second];
}

}  // namespace ds
