#include "ckpt/checkpoint_state.h"

#include <algorithm>
#include <cmath>

#include "ckpt/durable_file.h"

namespace ds {
namespace {

constexpr const char* kFormat = "dsrt-checkpoint";
constexpr std::string_view kHead = "{\"xxh3_128\": \"", kTail = "\",\n";
constexpr size_t kDigits = 32;
constexpr size_t kDeepest = 60;  // parse_json takes 64 levels, and state.json has one around the state

// What JSON can't carry back would be lost without a word: refuse it here.
Status check_storable(const Json& value, const std::string& place, size_t depth) {
    DS_REQUIRE(depth <= kDeepest, "{}: nested deeper than {} levels", place, kDeepest);
    DS_REQUIRE(!value.is_binary() && !value.is_discarded(), "{}: binary data can't be stored; put it into a tensor", place);
    DS_REQUIRE(!value.is_number_float() || std::isfinite(value.get<double>()), "{}: {} can't be stored as JSON; finite numbers can", place,
               value.get<double>());
    if (value.is_object())
        for (const auto& [key, item] : value.items()) DS_CHECK(check_storable(item, fmt::format("{}.{}", place, shown(key)), depth + 1));
    if (value.is_array())
        for (size_t i = 0; i < value.size(); ++i) DS_CHECK(check_storable(value[i], fmt::format("{}[{}]", place, i), depth + 1));
    return ok();
}

Result<FileRecord> parse_record(const Json& record, const std::string& place) {
    if (!record.is_object() || !record.contains("name") || !record["name"].is_string() || !record.contains("bytes") ||
        !record["bytes"].is_number_unsigned() || !record.contains("xxh3_128") || !record["xxh3_128"].is_string())
        return fail(Code::E_CORRUPT, "{}: files: an entry is not {{\"name\", \"bytes\", \"xxh3_128\"}}", place);
    FileRecord file{record["name"], record["bytes"], record["xxh3_128"]};
    if (record.contains("pieces")) {
        const Json &size = record.value("piece_bytes", Json()), &pieces = record["pieces"];
        const bool sound = size.is_number_unsigned() && size > 0 && pieces.is_array() &&
                           std::all_of(pieces.begin(), pieces.end(), [](const Json& p) { return p.is_string(); }) &&
                           pieces.size() == file.bytes / size.get<uint64_t>() + (file.bytes % size.get<uint64_t>() != 0);
        if (!sound)
            return fail(Code::E_CORRUPT, "{}: files: {}: pieces are not one checksum for each piece_bytes of {} bytes", place,
                        shown(file.name), file.bytes);
        file.piece_bytes = size;
        file.pieces = pieces.get<std::vector<std::string>>();
    }
    if (!is_plain_name(file.name))
        return fail(Code::E_CORRUPT, "{}: files: \"{}\" is not the name of a file in this folder", place, shown(file.name));
    return file;
}

}  // namespace

Result<std::string> state_text(const StateFile& contents) {
    DS_CHECK(check_storable(contents.state, "state", 1));
    Json files = Json::array();
    for (const FileRecord& f : contents.files) {
        files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"xxh3_128", f.checksum}});
        if (!f.pieces.empty()) files.back().update({{"piece_bytes", f.piece_bytes}, {"pieces", f.pieces}});
    }
    try {
        const std::string body = fmt::format("\"format\": \"{}\",\n\"version\": {},\n\"files\": {},\n\"state\": {}}}\n", kFormat,
                                             kCheckpointVersion, files.dump(), contents.state.dump(1));
        return fmt::format("{}{}{}{}", kHead, checksum_of(body), kTail, body);
    } catch (const Json::exception&) { return fail(Code::E_INVALID_ARGUMENT, "state: holds a text that is not UTF-8"); }
}

Result<StateFile> parse_state(std::string_view text, const std::string& place) {
    const size_t head = kHead.size() + kDigits + kTail.size();
    if (text.size() < head || !text.starts_with(kHead) || text.substr(kHead.size() + kDigits, kTail.size()) != kTail)
        return fail(Code::E_CORRUPT, "{}: does not begin with the checksum of a dsrt checkpoint", place);
    const std::string_view stored = text.substr(kHead.size(), kDigits), body = text.substr(head);
    if (const std::string computed = checksum_of(body); computed != stored)
        return fail(Code::E_CORRUPT, "{}: its checksum is {}, but it says {}: the file is damaged", place, computed, shown(stored));
    DS_TRY(Json parsed, parse_json(text, place));
    if (!parsed.is_object() || parsed.value("format", Json()) != kFormat)
        return fail(Code::E_CORRUPT, "{}: \"format\" is not {}", place, kFormat);
    const Json version = parsed.value("version", Json());
    if (!version.is_number_unsigned() || version == 0) return fail(Code::E_CORRUPT, "{}: \"version\" is not a positive number", place);
    if (version > kCheckpointVersion) {
        return fail(Code::E_UNSUPPORTED, "{}: version {} was written by a newer dsrt; this one reads up to version {}", place,
                    version.get<uint64_t>(), kCheckpointVersion);
    }
    if (!parsed.contains("files") || !parsed["files"].is_array() || !parsed.contains("state"))
        return fail(Code::E_CORRUPT, "{}: has no \"files\" or no \"state\"", place);
    StateFile contents;
    for (const Json& record : parsed["files"]) {
        DS_TRY(FileRecord file, parse_record(record, place));
        contents.files.push_back(std::move(file));
    }
    contents.state = std::move(parsed["state"]);
    return contents;
}

}  // namespace ds
