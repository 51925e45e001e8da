// What precedes every message between processes: enough to see that both sides mean the same. It is checked before the payload is asked
// for.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/dtype.h"

namespace ds {

enum class CommOp : uint8_t { exchange, all_to_all, reduce_scatter, all_reduce, send };

inline const char* name_of(CommOp op) {
    static constexpr const char* names[] = {"exchange", "all_to_all", "reduce_scatter", "all_reduce", "send"};
    return static_cast<size_t>(op) < std::size(names) ? names[static_cast<size_t>(op)] : "unknown";
}

struct MessageHeader {
    static constexpr uint32_t kMagic = 0x4d525344;  // "DSRM"
    uint32_t magic = kMagic;
    CommOp op = CommOp::exchange;
    uint8_t dtype = 0;
    uint16_t reserved = 0;
    uint64_t sequence = 0;  // of the calls in this group
    int64_t bytes = 0;      // of the payload that follows
    int64_t tag = 0;        // of send
    char call[32] = {};     // of exchange

    void set_call(std::string_view name) { std::memcpy(call, name.data(), std::min(name.size(), sizeof call - 1)); }
    std::string call_name() const { return std::string(call, strnlen(call, sizeof call)); }
};
static_assert(sizeof(MessageHeader) == 64);

}  // namespace ds
