// What the tests of lib/ckpt share: a folder that cleans up after itself, files made by hand, random contents.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "ckpt/checkpoint.h"

namespace ds::testing {

namespace fs = std::filesystem;

struct TempFolder {
    fs::path path;
    TempFolder() {
        std::string name = (fs::temp_directory_path() / "dsrt-ckpt-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~TempFolder() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
};

inline void put(const fs::path& path, const std::string& contents) {
    std::ofstream(path, std::ios::binary).write(contents.data(), static_cast<std::streamsize>(contents.size()));
}

inline std::string get(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

inline std::string file_of(const std::string& header, size_t data_bytes, uint64_t length) {
    std::string text(8, '\0');
    std::memcpy(text.data(), &length, 8);
    return text + header + std::string(data_bytes, 'x');
}
inline std::string file_of(const std::string& header, size_t data_bytes) { return file_of(header, data_bytes, header.size()); }

inline std::string random_bytes(size_t n, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string bytes(n, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    return bytes;
}

inline std::string text_of(const TensorView& view) {
    return std::string(reinterpret_cast<const char*>(view.data.data()), view.data.size());
}

// A small model's worth of tensors whose every byte follows from the step.
struct Contents {
    std::string weights, moments;
    explicit Contents(int step, size_t scale = 1)
        : weights(random_bytes(4096 * scale, 2 * static_cast<uint64_t>(step))),
          moments(random_bytes(8000 * scale, 2 * static_cast<uint64_t>(step) + 1)) {}
    CheckpointFiles files() const {
        const auto w = static_cast<int64_t>(weights.size()), m = static_cast<int64_t>(moments.size());
        return {
            {"weights.safetensors", {{"a.weight", DType::f32, {w / 16, 4}, weights.data(), {}}}},
            {"optimizer.safetensors",
             {{"a.weight.1", DType::bf16, {m / 4}, moments.data(), {}}, {"a.weight.2", DType::u8, {m / 2}, moments.data() + m / 2, {}}}}};
    }
    bool matches(const Checkpoint& c) const {
        return text_of(*c.tensor("weights.safetensors", "a.weight").value()) == weights &&
               text_of(*c.tensor("optimizer.safetensors", "a.weight.1").value()) +
                       text_of(*c.tensor("optimizer.safetensors", "a.weight.2").value()) ==
                   moments;
    }
};

inline Json state_of(int step) {
    return {{"step", step},
            {"scale", 65536.0},
            {"rng", {1234567890123456789ull, 42}},
            {"client_state", {{"text", "caf\u00e9"}, {"none", nullptr}}}};
}

inline size_t hidden_names(const fs::path& dir) {
    size_t n = 0;
    for (const auto& entry : fs::directory_iterator(dir))
        n += entry.path().filename().string().front() == '.' || entry.path().extension() == ".tmp";
    return n;
}

}  // namespace ds::testing
