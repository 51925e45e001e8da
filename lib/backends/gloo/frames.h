// Frames of the rendezvous: a fixed header, then fields. Everything that comes from a socket is checked here before anything is allocated
// for it.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ds::rendezvous {

enum class Type : uint8_t { hello = 1, challenge, proof, welcome, refuse, ready, set, get, value, beat, failure, bye };

inline constexpr uint32_t kMagic = 0x56525344;  // "DSRV"
inline constexpr uint8_t kVersion = 1;
inline constexpr size_t kHeader = 12;             // magic, version, type, two zeros, length
inline constexpr size_t kLargest = 1 << 20;       // bytes of fields
inline constexpr size_t kLargestStranger = 1024;  // before the peer has proved who it is
inline constexpr size_t kFields = 8;

struct Frame {
    Type type{};
    std::vector<std::string> fields;
    const std::string& field(size_t i) const {
        static const std::string none;
        return i < fields.size() ? fields[i] : none;
    }
    int64_t number(size_t i) const;  // -1: not a number
};

inline std::string encode(Type type, const std::vector<std::string>& fields = {}) {
    std::string body;
    for (const std::string& field : fields) {
        const auto n = static_cast<uint32_t>(field.size());
        body.append(reinterpret_cast<const char*>(&n), 4).append(field);
    }
    std::string out(kHeader, '\0');
    const auto n = static_cast<uint32_t>(body.size());
    std::memcpy(out.data(), &kMagic, 4);
    out[4] = static_cast<char>(kVersion);
    out[5] = static_cast<char>(type);
    std::memcpy(out.data() + 8, &n, 4);
    return out + body;
}

// Takes one whole frame from the front of `bytes`. nullopt and `bad` empty: more bytes are needed.
inline std::optional<Frame> decode(std::string& bytes, size_t largest, std::string& bad) {
    bad.clear();
    if (bytes.size() < kHeader) {
        if (bytes.size() >= 4 && std::memcmp(bytes.data(), &kMagic, 4) != 0) bad = "it does not speak this protocol";
        return std::nullopt;
    }
    uint32_t magic = 0, length = 0;
    std::memcpy(&magic, bytes.data(), 4);
    std::memcpy(&length, bytes.data() + 8, 4);
    const auto type = static_cast<uint8_t>(bytes[5]);
    if (magic != kMagic) bad = "it does not speak this protocol";
    else if (bytes[4] != static_cast<char>(kVersion)) bad = "it speaks another version of this protocol";
    else if (bytes[6] || bytes[7] || type < static_cast<uint8_t>(Type::hello) || type > static_cast<uint8_t>(Type::bye))
        bad = "it sent a frame of an unknown kind";
    else if (length > largest) bad = "it sent a frame that is too long";
    if (!bad.empty() || bytes.size() < kHeader + length) return std::nullopt;
    Frame frame{static_cast<Type>(type), {}};
    for (size_t at = kHeader; at < kHeader + length;) {
        uint32_t n = 0;
        if (kHeader + length - at < 4 || frame.fields.size() == kFields) return bad = "it sent a damaged frame", std::nullopt;
        std::memcpy(&n, bytes.data() + at, 4);
        at += 4;
        if (n > kHeader + length - at) return bad = "it sent a damaged frame", std::nullopt;
        frame.fields.emplace_back(bytes, at, n);
        at += n;
    }
    bytes.erase(0, kHeader + length);
    return frame;
}

inline int64_t Frame::number(size_t i) const {
    const std::string& text = field(i);
    if (text.empty() || text.size() > 18) return -1;
    int64_t n = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return -1;
        n = n * 10 + (c - '0');
    }
    return n;
}

}  // namespace ds::rendezvous
