// lib/ckpt: safetensors files, weight folders and checkpoints, whole, hostile and damaged.
#include <array>
#include <atomic>
#include <fstream>
#include <limits>

#include "ckpt/checkpoint.h"
#include "ckpt/durable_file.h"
#include "ckpt/weight_folder.h"
#include "ckpt_common.h"

using namespace ds;
using namespace ds::testing;

namespace {

std::string error_of(const std::string& contents) {
    const TempFolder folder;
    put(folder.path / "x.safetensors", contents);
    const Result<SafetensorsFile> file = SafetensorsFile::open(folder.path / "x.safetensors");
    if (file.ok()) return "";
    CHECK((file.status().code() == Code::E_CORRUPT || file.status().code() == Code::E_UNSUPPORTED));
    const std::string& message = file.status().message();
    const size_t at = message.find("x.safetensors: ");
    return at == message.npos ? message : message.substr(at);
}

bool contains(const std::string& text, const std::string& part) {
    const bool found = text.find(part) != text.npos;
    if (!found) MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
    return found;
}

}  // namespace

TEST_CASE("safetensors/a_file_of_the_reference_is_read_and_written_again_byte_for_byte") {
    const fs::path original = fs::path(DSRT_TEST_DATA) / "ckpt/reference.safetensors";
    Result<SafetensorsFile> file = SafetensorsFile::open(original);
    REQUIRE_MESSAGE(file.ok(), file.status().message());
    CHECK(file->tensors().size() == 3 * kDTypes);
    CHECK(file->metadata() == Metadata{{"format", "pt"}});
    for (int i = 0; i < kDTypes; ++i) {
        const auto type = static_cast<DType>(i);
        const std::string prefix(name_of(type));
        for (const auto& [name, shape] :
             {std::pair{prefix + ".b", Shape{3, 2}}, {prefix + ".a\"\u00e9\n", Shape{}}, {prefix + ".empty", Shape{0, 4}}}) {
            const TensorView* view = file->find(name);
            REQUIRE(view);
            CHECK(view->dtype == type);
            CHECK(view->shape == shape);
            CHECK(view->data.size() == static_cast<size_t>(elements(shape) * size_of(type)));
        }
    }
    CHECK(file->find("i64.b")->data[1] == std::byte{40});  // (1 * 37 + 3) % 251

    std::vector<NamedTensor> tensors;
    for (const TensorView& v : file->tensors()) tensors.push_back({v.name, v.dtype, v.shape, v.data.data(), {}});
    std::reverse(tensors.begin(), tensors.end());
    const TempFolder folder;
    REQUIRE(write_safetensors(folder.path / "copy", tensors).ok());
    CHECK(get(folder.path / "copy") == get(original));
    CHECK(!fs::exists(folder.path / "copy.tmp"));
}

TEST_CASE("safetensors/round_trip_of_sources_big_and_small_tensors_and_metadata") {
    const TempFolder folder;
    const std::string big = random_bytes(5 << 20, 1), small = random_bytes(24, 2);
    const auto in_pieces = [&](const ChunkWriter& write) -> Status {
        for (size_t at = 0; at < big.size(); at += 700001)
            DS_CHECK(write(std::as_bytes(std::span(big).subspan(at, std::min<size_t>(700001, big.size() - at)))));
        return ok();
    };
    const std::vector<NamedTensor> tensors = {
        {"small", DType::i64, {3}, small.data(), {}},
        {"pieces", DType::f32, {5, 1 << 18}, nullptr, in_pieces},
        {"big", DType::u8, {5 << 20}, big.data(), {}},
    };
    REQUIRE(write_safetensors(folder.path / "f", tensors, {{"a", "1"}, {"b\n", "\"2\""}}).ok());
    Result<SafetensorsFile> file = SafetensorsFile::open(folder.path / "f");
    REQUIRE(file.ok());
    const SafetensorsFile moved = std::move(file).value();
    CHECK(text_of(*moved.find("small")) == small);
    CHECK(text_of(*moved.find("pieces")) == big);
    CHECK(text_of(*moved.find("big")) == big);
    CHECK(moved.find("other") == nullptr);
    CHECK(moved.metadata() == Metadata{{"a", "1"}, {"b\n", "\"2\""}});
    REQUIRE(write_safetensors(folder.path / "none", {}, {}).ok());
    CHECK(SafetensorsFile::open(folder.path / "none").value().tensors().empty());
}

TEST_CASE("safetensors/what_cannot_be_written_is_refused_and_leaves_the_old_file") {
    const TempFolder folder;
    const float x[2] = {};
    const NamedTensor good{"a", DType::f32, {2}, x, {}};
    const fs::path path = folder.path / "f";
    REQUIRE(write_safetensors(path, std::span(&good, 1)).ok());
    const std::string before = get(path);
    const auto message = [&](std::vector<NamedTensor> tensors) { return write_safetensors(path, tensors).message(); };
    CHECK(contains(message({good, good}), "f: tensor a: appears twice"));
    CHECK(contains(message({{"", DType::f32, {2}, x, {}}}), "no place for this name"));
    CHECK(contains(message({{"__metadata__", DType::f32, {2}, x, {}}}), "no place for this name"));
    CHECK(contains(message({{"b\xff", DType::f32, {2}, x, {}}}), "is not UTF-8"));
    CHECK(contains(message({{"b", DType::f32, {-2}, x, {}}}), "tensor b: dimension -2 is negative"));
    CHECK(contains(message({{"b", DType::f32, {2}, nullptr, {}}}), "tensor b: neither data nor a source"));
    const auto short_source = [&](const ChunkWriter& write) { return write(std::as_bytes(std::span(x, 1))); };
    CHECK(contains(message({{"b", DType::f32, {2}, nullptr, short_source}}), "tensor b: its source gave 4 of 8 bytes"));
    const auto failing = [&](const ChunkWriter&) { return fail(Code::E_USER, "no more"); };
    CHECK(message({{"b", DType::f32, {2}, nullptr, failing}}) == "no more");
    CHECK(get(path) == before);
    CHECK(!fs::exists(folder.path / "f.tmp"));
    CHECK(write_safetensors(folder.path / "absent/f", std::span(&good, 1)).code() == Code::E_IO);
}

TEST_CASE("safetensors/hostile_headers_are_refused_with_place_and_reason") {
    const auto one = [](const std::string& fields) { return file_of("{\"t\":{" + fields + "}}", 8); };
    const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
    CHECK(error_of(one(good)) == "");
    CHECK(error_of(file_of("{\"t\":{" + good + "}}     ", 8)) == "");
    CHECK(contains(error_of(""), "x.safetensors: 0 bytes, too short"));
    CHECK(contains(error_of(file_of("{}", 0, uint64_t{1} << 63)), "header of 9223372036854775808 bytes, at most 100000000"));
    CHECK(contains(error_of(file_of("{}", 0, ~uint64_t{0})), "header of 18446744073709551615 bytes"));
    CHECK(contains(error_of(file_of("{}", 0, 3)), "header of 3 bytes ends past the file (10 bytes)"));
    CHECK(contains(error_of(file_of("", 0)), "does not begin with"));
    CHECK(contains(error_of(file_of("[]", 0)), "does not begin with"));
    CHECK(contains(error_of(file_of(" {}", 0)), "does not begin with"));
    CHECK(contains(error_of(file_of("{} x", 0)), "header: "));
    CHECK(contains(error_of(file_of("{/**/}", 0)), "header: "));
    CHECK(contains(error_of(file_of("{\"a\":1}", 0)), "key a: is a number, not an object"));
    CHECK(contains(error_of(file_of("{\"\xff\":1}", 0)), "header: "));
    CHECK(contains(error_of(file_of("{\"a\":" + std::string(100000, '['), 0)), "key a: is a list, not an object"));
    CHECK(contains(error_of(file_of(std::string(100000, '{'), 0)), "header: "));
    CHECK(contains(error_of(file_of(R"({"__metadata__":{"a":1}})", 0)), "__metadata__: key a: is a number, only texts"));
    CHECK(contains(error_of(file_of(R"({"__metadata__":{"a":"1","a":"2"}})", 0)), "__metadata__: key a appears twice"));
    CHECK(contains(error_of(file_of("{\"t\":{" + good + "},\"t\":{" + good + "}}", 8)), "key t appears twice"));
    CHECK(contains(error_of(one(good + ",\"dtype\":\"F32\"")), "tensor t: dtype appears twice"));
    CHECK(contains(error_of(one(good + ",\"shape\":[2]")), "tensor t: shape appears twice"));
    CHECK(contains(error_of(one(good + ",\"more\":[2]")), "tensor t: unknown field more"));
    CHECK(contains(error_of(one(R"("shape":[2],"data_offsets":[0,8])")), "tensor t: has no dtype"));
    CHECK(contains(error_of(one(R"("dtype":"F32","data_offsets":[0,8])")), "tensor t: has no shape"));
    CHECK(contains(error_of(one(R"("dtype":"F32","shape":[2])")), "tensor t: has no data_offsets"));
    CHECK(contains(error_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])")), "tensor t: data_offsets is too long"));
    CHECK(contains(error_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[8])")), "tensor t: data_offsets has 1 numbers, not 2"));
    CHECK(contains(error_of(one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])")), "tensor t: shape: the number -2 can't stand here"));
    CHECK(
        contains(error_of(one(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])")), "tensor t: shape: the number 2.0 can't stand here"));
    CHECK(contains(error_of(one(R"("dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8])")), "tensor t: shape: the number"));
    CHECK(contains(error_of(one(R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])")), "tensor t: shape: a list can't stand here"));
    CHECK(contains(error_of(one(R"("dtype":null,"shape":[2],"data_offsets":[0,8])")), "tensor t: dtype: null can't stand here"));
    CHECK(contains(error_of(one(R"("dtype":"U64","shape":[1],"data_offsets":[0,8])")), "tensor t: dtype U64 is not supported; I64, F64,"));
    CHECK(contains(error_of(one(R"("dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8])")),
                   "tensor t: the shape [4294967296,4294967296,4] has more"));
    CHECK(contains(error_of(one(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])")),
                   "tensor t: dimension 18446744073709551615"));
    std::string deep_shape;
    for (int i = 0; i < 65; ++i) deep_shape += i ? ",1" : "1";
    CHECK(
        contains(error_of(one("\"dtype\":\"F32\",\"shape\":[" + deep_shape + "],\"data_offsets\":[0,8]")), "tensor t: shape is too long"));
}

TEST_CASE("safetensors/byte_ranges_must_tile_the_data") {
    const auto ranges = [](std::vector<std::array<uint64_t, 3>> tensors, size_t data) {  // elements, begin, end
        std::string header = "{";
        for (size_t i = 0; i < tensors.size(); ++i)
            header += fmt::format("{}\"t{}\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", i ? "," : "", i, tensors[i][0],
                                  tensors[i][1], tensors[i][2]);
        header += "}";
        header.resize(392, ' ');  // the data begins at byte 400
        return error_of(file_of(header, data));
    };
    CHECK(ranges({{8, 0, 8}, {8, 8, 16}}, 16) == "");
    CHECK(ranges({{8, 8, 16}, {8, 0, 8}}, 16) == "");
    CHECK(ranges({{0, 0, 0}, {8, 0, 8}, {0, 8, 8}, {0, 8, 8}, {8, 8, 16}, {0, 16, 16}}, 16) == "");
    CHECK(ranges({{8, 0, 8}, {92, 8, 100}}, 16) == "x.safetensors: tensor t1: byte range 408..500 ends past the file (416 bytes)");
    CHECK(ranges({{8, 8, 0}}, 16) == "x.safetensors: tensor t0: byte range 408..400 ends before it begins");
    CHECK(ranges({{7, 0, 8}}, 8) == "x.safetensors: tensor t0: byte range 400..408 holds 8 bytes, U8 [7] takes 7");
    CHECK(ranges({{8, 0, 8}, {8, 4, 12}}, 12) == "x.safetensors: tensor t1: byte range 404..412 overlaps tensor t0, which ends at 408");
    CHECK(ranges({{8, 0, 8}, {8, 0, 8}}, 8) == "x.safetensors: tensor t1: byte range 400..408 overlaps tensor t0, which ends at 408");
    CHECK(ranges({{8, 0, 8}, {0, 4, 4}}, 8) == "x.safetensors: tensor t1: byte range 404..404 overlaps tensor t0, which ends at 408");
    CHECK(ranges({{8, 0, 8}, {8, 9, 17}}, 17) == "x.safetensors: bytes 408..409, before tensor t1, belong to no tensor");
    CHECK(ranges({{8, 4, 12}}, 12) == "x.safetensors: bytes 400..404, before tensor t0, belong to no tensor");
    CHECK(ranges({{8, 0, 8}}, 9) == "x.safetensors: bytes 408..409, at the end of the file, belong to no tensor");
    CHECK(contains(ranges({{8, 18446744073709551608ull, 18446744073709551615ull}}, 8),
                   "byte range 18446744073709552008..18446744073709552015 ends past"));
    CHECK(contains(ranges({}, 3), "belong to no tensor"));
}

TEST_CASE("safetensors/no_truncation_loads_and_no_damage_crashes") {
    const std::string whole = get(fs::path(DSRT_TEST_DATA) / "ckpt/reference.safetensors");
    for (size_t n = 0; n < whole.size(); ++n) CHECK(error_of(whole.substr(0, n)) != "");
    std::mt19937 random(7);
    for (int i = 0; i < 4000; ++i) {
        std::string damaged = whole;
        for (uint32_t flips = 1 + random() % 4; flips; --flips)
            damaged[random() % 2240] = static_cast<char>(random() % 2 ? "{}[]\",:0123456789"[random() % 17] : random());
        (void)error_of(damaged);
    }
}

TEST_CASE("weights/one_file_or_shards_read_alike_and_stale_layouts_are_removed") {
    const TempFolder folder;
    std::vector<std::string> bytes;
    std::vector<NamedTensor> tensors;
    for (int i = 0; i < 7; ++i) bytes.push_back(random_bytes(i == 3 ? 4000 : 400, static_cast<uint64_t>(i)));
    for (int i = 0; i < 7; ++i)
        tensors.push_back({fmt::format("layer.{}", i),
                           DType::f16,
                           {static_cast<int64_t>(bytes[static_cast<size_t>(i)].size() / 2)},
                           bytes[static_cast<size_t>(i)].data(),
                           {}});
    const auto check = [&](size_t files) {
        Result<WeightFolder> weights = WeightFolder::open(folder.path);
        REQUIRE_MESSAGE(weights.ok(), weights.status().message());
        CHECK(weights->files().size() == files);
        CHECK(weights->names().size() == 7);
        const WeightFolder moved = std::move(weights).value();
        for (size_t i = 0; i < 7; ++i) CHECK(text_of(*moved.find(fmt::format("layer.{}", i))) == bytes[i]);
        CHECK(moved.find("layer.7") == nullptr);
    };
    put(folder.path / "model-of-mine.safetensors", "stays");
    REQUIRE(write_weights(folder.path, tensors, 1000).ok());  // [0,1] [2] [3] [4,5] [6]
    check(5);
    CHECK(fs::exists(folder.path / "model-00003-of-00005.safetensors"));
    const Json index = Json::parse(get(folder.path / "model.safetensors.index.json"));
    CHECK(index["metadata"]["total_size"] == 6400);
    CHECK(index["weight_map"]["layer.3"] == "model-00003-of-00005.safetensors");
    REQUIRE(write_weights(folder.path, tensors, 5000).ok());
    check(3);
    REQUIRE(write_weights(folder.path, tensors, 6400).ok());
    check(1);
    CHECK(fs::exists(folder.path / "model-of-mine.safetensors"));
    CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 2);
    REQUIRE(write_weights(folder.path, tensors, 5000).ok());
    check(3);
}

TEST_CASE("weights/what_a_folder_must_not_hold_is_refused") {
    const TempFolder folder;
    const auto message = [&] {
        const Result<WeightFolder> weights = WeightFolder::open(folder.path);
        return weights.ok() ? std::string() : fmt::format("{} {}", code_name(weights.status().code()), weights.status().message());
    };
    CHECK(contains(message(), "DS_E_NOT_FOUND"));
    CHECK(contains(message(), "holds neither model.safetensors nor model.safetensors.index.json"));
    put(folder.path / "pytorch_model.bin", "PK");
    CHECK(contains(message(), "DS_E_UNSUPPORTED"));
    CHECK(contains(message(), "pytorch_model.bin: only safetensors weights are read"));

    const fs::path index = folder.path / "model.safetensors.index.json";
    const float x[2] = {1, 2};
    const NamedTensor tensor{"a", DType::f32, {2}, x, {}};
    fs::create_directory(folder.path / "inner");
    fs::create_directory(folder.path / "folder.safetensors");
    REQUIRE(write_safetensors(folder.path / "inner/s.safetensors", std::span(&tensor, 1)).ok());
    REQUIRE(write_safetensors(folder.path / "s.safetensors", std::span(&tensor, 1)).ok());
    const std::vector<std::string> paths = {
        "inner/s.safetensors", (folder.path / "s.safetensors").string(), "../x.safetensors", "..", "", "inner/../s.safetensors", "s.bin",
        ".s.safetensors",      std::string("s.safetensors\0", 14)};
    for (const std::string& shard : paths) {
        put(index, Json{{"weight_map", {{"a", shard}}}}.dump());
        CHECK(contains(message(), "DS_E_CORRUPT"));
        CHECK(contains(message(), "index.json: weight_map: a: "));
    }
    put(index, R"({"weight_map": {"a": "folder.safetensors"}})");
    CHECK(contains(message(), "is not a regular file"));
    put(index, R"({"weight_map": {"a": "absent.safetensors"}})");
    CHECK(contains(message(), "absent.safetensors: cannot open"));
    put(index, R"({"weight_map": {"a": "s.safetensors", "b": "s.safetensors"}})");
    CHECK(contains(message(), "index.json: tensor b: its shard s.safetensors does not hold it"));
    put(index, R"({"weight_map": {"a": 1}})");
    CHECK(contains(message(), "weight_map: a: is not the name of a file"));
    put(index, R"({"weight_map": ["a"]})");
    CHECK(contains(message(), "has no object \"weight_map\""));
    put(index, R"({"weight_map": {"a": "s.safetensors", "a": "s.safetensors"}})");
    CHECK(contains(message(), "appears twice"));
    put(index, R"({"weight_map": {"a": "s.safetensors"}})");
    CHECK(message() == "");
}

TEST_CASE("checkpoint/round_trip_of_state_and_tensors_by_tag_and_by_latest") {
    const TempFolder folder;
    const fs::path dir = folder.path / "deep/er";
    for (int step = 1; step <= 3; ++step)
        REQUIRE(save_checkpoint(dir, fmt::format("global_step{}", step), state_of(step), Contents(step).files()).ok());
    CHECK(latest_tag(dir).value() == "global_step3");
    for (const std::optional<std::string>& tag : {std::optional<std::string>(), std::optional<std::string>("global_step1")}) {
        Result<Checkpoint> c = open_checkpoint(dir, tag);
        REQUIRE_MESSAGE(c.ok(), c.status().message());
        const int step = tag ? 1 : 3;
        CHECK(c->tag() == fmt::format("global_step{}", step));
        CHECK(c->state() == state_of(step));
        CHECK(Contents(step).matches(*c));
        CHECK(c->files().size() == 2);
        CHECK(c->file("other") == nullptr);
        CHECK(contains(c->tensor("weights.safetensors", "b").status().message(), "weights.safetensors: has no tensor b"));
    }
    CHECK(hidden_names(dir) == 0);
}

TEST_CASE("checkpoint/a_tag_is_replaced_while_an_open_one_stays_readable") {
    for (const bool exchange : {true, false}) {
        const TempFolder folder;
        REQUIRE(save_checkpoint(folder.path, "t", state_of(1), Contents(1).files(), {exchange}).ok());
        const Checkpoint old = open_checkpoint(folder.path).value();
        REQUIRE(save_checkpoint(folder.path, "t", state_of(2), Contents(2).files(), {exchange}).ok());
        CHECK(Contents(1).matches(old));
        CHECK(Contents(2).matches(open_checkpoint(folder.path).value()));
        CHECK(hidden_names(folder.path) == 0);
    }
}

TEST_CASE("checkpoint/bad_arguments_and_absent_checkpoints_have_their_messages") {
    const TempFolder folder;
    const auto save = [&](const std::string& tag, const Json& state, const CheckpointFiles& files = {}) {
        return save_checkpoint(folder.path / "c", tag, state, files).message();
    };
    for (const char* tag : {"", ".", "..", "a/b", "/a", ".hidden", "a\\b", "a\nb", "latest"})
        CHECK(contains(save(tag, {}), "is not acceptable"));
    CHECK(contains(save(std::string(201, 'a'), {}), "is not acceptable"));
    CHECK(contains(save("t", {}, {{"../w.safetensors", {}}}), "file \"../w.safetensors\" of a checkpoint"));
    CHECK(contains(save("t", {}, {{"state.json", {}}}), "file \"state.json\" of a checkpoint"));
    CHECK(!fs::exists(folder.path / "c"));
    CHECK(contains(save("t", {{"best", {1.0, std::numeric_limits<double>::quiet_NaN()}}}), "state.best[1]: nan can't be stored"));
    CHECK(contains(save("t", {{"text", "\xff"}}), "not UTF-8"));
    Json deep = 1;
    for (int i = 0; i < 100; ++i) deep = Json::array({deep});
    CHECK(contains(save("t", deep), "nested deeper than 60 levels"));
    CHECK(!fs::exists(folder.path / "c/t"));
    CHECK(hidden_names(folder.path / "c") == 0);

    Result<Checkpoint> none = open_checkpoint(folder.path / "c");
    CHECK(none.status().code() == Code::E_NOT_FOUND);
    CHECK(contains(none.status().message(), "c/latest: no such file: no checkpoint was saved here"));
    REQUIRE(save("t", 1.5).empty());
    CHECK(open_checkpoint(folder.path / "c").value().state() == 1.5);
    none = open_checkpoint(folder.path / "c", "u");
    CHECK(none.status().code() == Code::E_NOT_FOUND);
    CHECK(contains(none.status().message(), "c/u: no such checkpoint"));
    CHECK(open_checkpoint(folder.path / "c", "../c/t").status().code() == Code::E_INVALID_ARGUMENT);
    put(folder.path / "c/latest", "../t\n");
    CHECK(open_checkpoint(folder.path / "c").status().code() == Code::E_CORRUPT);
    put(folder.path / "c/latest", "gone");
    CHECK(open_checkpoint(folder.path / "c").status().code() == Code::E_NOT_FOUND);
    fs::create_directory(folder.path / "c/pickles");
    CHECK(contains(open_checkpoint(folder.path / "c", "pickles").status().message(), "c/pickles/state.json: no such file"));
    put(folder.path / "c/pickles/mp_rank_00_model_states.pt", "");
    CHECK(open_checkpoint(folder.path / "c", "pickles").status().code() == Code::E_UNSUPPORTED);
    put(folder.path / "c/file", "");
    CHECK(contains(save("file", {}), "exists and is not a folder"));
    CHECK(contains(save_checkpoint(folder.path / "c/file", "t", {}, {}).message(), "c/file"));
}

TEST_CASE("checkpoint/every_damaged_byte_is_detected_and_named") {
    const TempFolder folder;
    REQUIRE(save_checkpoint(folder.path, "t", state_of(1), Contents(1).files()).ok());
    std::mt19937 random(3);
    for (const char* name : {"state.json", "weights.safetensors", "optimizer.safetensors"}) {
        const fs::path path = folder.path / "t" / name;
        const std::string whole = get(path);
        const size_t header = std::string_view(name) == "state.json" ? whole.size() : whole.find("}}") + 10;
        std::vector<size_t> places(header);
        std::iota(places.begin(), places.end(), size_t{0});
        for (int i = 0; i < 300; ++i) places.push_back(random() % whole.size());
        for (const size_t place : places) {
            std::string damaged = whole;
            damaged[place] = static_cast<char>(damaged[place] ^ (1 << random() % 8));
            put(path, damaged);
            const Result<Checkpoint> c = open_checkpoint(folder.path);
            REQUIRE(!c.ok());
            CHECK(c.status().code() == Code::E_CORRUPT);
            CHECK(c.status().message().find(name) != std::string::npos);
        }
        for (size_t n = 0; n < whole.size(); n += 1 + n / 7) {
            put(path, whole.substr(0, n));
            CHECK(open_checkpoint(folder.path).status().code() == Code::E_CORRUPT);
        }
        put(path, whole + "\n");
        CHECK(open_checkpoint(folder.path).status().code() == Code::E_CORRUPT);
        fs::remove(path);
        CHECK(!open_checkpoint(folder.path).ok());
        put(path, whole);
        REQUIRE(open_checkpoint(folder.path).ok());
    }
    put(folder.path / "t/weights.safetensors", std::string(fs::file_size(folder.path / "t/weights.safetensors"), '\0'));
    const std::string message = open_checkpoint(folder.path).status().message();
    CHECK(contains(message, "t/weights.safetensors: its checksum is "));
    CHECK(contains(message, "but state.json says "));
}

TEST_CASE("checkpoint/threads_share_the_verification_of_large_files") {
    const TempFolder folder;
    const Contents contents(1, 5000);  // 20 and 40 MB
    REQUIRE(save_checkpoint(folder.path, "t", state_of(1), contents.files()).ok());
    std::atomic<int> calls{0};
    const Spread backwards = [&](int64_t n, const std::function<void(int64_t)>& f) {
        for (int64_t i = n; i-- > 0; ++calls) f(i);
    };
    const Result<Checkpoint> whole = open_checkpoint(folder.path, std::nullopt, backwards);
    REQUIRE(whole.ok());
    CHECK(contents.matches(*whole));
    CHECK(calls == 2 + 3);
    const fs::path path = folder.path / "t/optimizer.safetensors", state = folder.path / "t/state.json";
    for (const size_t place : {size_t{20} << 20, size_t{39'000'000}}) {  // two damages: the first is told
        std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(place)).put('\x55');
    }
    const std::string message = open_checkpoint(folder.path, std::nullopt, backwards).status().message();
    CHECK(contains(message, "optimizer.safetensors: its checksum is "));
    CHECK(contains(message, " in bytes 16777216..33554432, but state.json says "));
    // What pieces must be.
    const std::string text = get(state), body = text.substr(text.find('\n') + 1);
    for (const auto& [from, to] : {std::pair{"\"piece_bytes\":16777216", "\"piece_bytes\":8388608"},
                                   {"\"piece_bytes\":16777216", "\"piece_bytes\":0"},
                                   {"\"pieces\":[", "\"pieces\":[1,"}}) {
        std::string changed = body;
        changed.replace(changed.find(from), std::string_view(from).size(), to);
        put(state, "{\"xxh3_128\": \"" + checksum_of(changed) + "\",\n" + changed);
        CHECK(contains(open_checkpoint(folder.path).status().message(), "pieces are not one checksum for each piece_bytes"));
    }
}

TEST_CASE("checkpoint/state_of_a_newer_version_or_with_foreign_contents_is_refused") {
    const TempFolder folder;
    fs::create_directory(folder.path / "t");
    const auto message = [&](const std::string& body) {
        put(folder.path / "t/state.json", "{\"xxh3_128\": \"" + checksum_of(body) + "\",\n" + body);
        const Result<Checkpoint> c = open_checkpoint(folder.path, "t");
        return c.ok() ? std::string() : fmt::format("{} {}", code_name(c.status().code()), c.status().message());
    };
    CHECK(message(R"("format": "dsrt-checkpoint", "version": 1, "files": [], "state": {}})") == "");
    const std::string newer = message(R"("format": "dsrt-checkpoint", "version": 2, "something": "else"})");
    CHECK(contains(newer, "DS_E_UNSUPPORTED"));
    CHECK(contains(newer, "version 2 was written by a newer dsrt; this one reads up to version 1"));
    CHECK(contains(message(R"("format": "other", "version": 1, "files": [], "state": {}})"), "\"format\" is not dsrt-checkpoint"));
    CHECK(contains(message(R"("format": "dsrt-checkpoint", "version": -1, "files": [], "state": {}})"),
                   "\"version\" is not a positive number"));
    CHECK(contains(message(R"("format": "dsrt-checkpoint", "version": 1, "files": {}, "state": {}})"), "has no \"files\""));
    CHECK(contains(message(R"("format": "dsrt-checkpoint", "version": 1, "files": [{"name": 1}], "state": {}})"), "an entry is not"));
    CHECK(contains(message(R"("format": "dsrt-checkpoint", "version": 1, "files": [{"name": "../x", "bytes": 1, "xxh3_128": ""}]})"),
                   "has no \"files\" or no \"state\""));
    CHECK(contains(
        message(R"("format": "dsrt-checkpoint", "version": 1, "state": 1, "files": [{"name": "../x", "bytes": 1, "xxh3_128": ""}]})"),
        "is not the name of a file"));
    CHECK(contains(message("\"unfinished\": "), "DS_E_CORRUPT"));
}
