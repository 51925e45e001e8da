// Counts what a rank's exchanges send, by kind, whatever the backend. Bytes are those that must leave a rank (Thakur, Rabenseifner, Gropp
// 2005), so that figures can be held to published formulas: of n ranks and M bytes a sum everywhere sends 2 (n - 1) / n M from each, a
// scattered sum and a gathering half of it, an exchange what is meant for others. Copies that a shared memory saves are counted all the
// same.
#pragma once

#include "comm/communicator.h"

namespace ds {

enum class Traffic : int { all_reduce, reduce_scatter, all_gather, all_to_all, send };
inline constexpr int kTraffics = 5;
const char* name_of(Traffic kind);

class Sent {
public:
    void add(Traffic kind, int64_t bytes) { bytes_[static_cast<size_t>(kind)].fetch_add(bytes, std::memory_order_relaxed); }
    int64_t of(Traffic kind) const { return bytes_[static_cast<size_t>(kind)].load(std::memory_order_relaxed); }

private:
    std::array<std::atomic<int64_t>, kTraffics> bytes_{};
};

// The same communicator, counting into `sent`, which must live as long.
std::unique_ptr<Communicator> counted(std::unique_ptr<Communicator> group, Sent& sent);

}  // namespace ds
