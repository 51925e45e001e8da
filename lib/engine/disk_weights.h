// Weights of one rank that lie on disk, as the `fetch` nodes of its plans get them: read ahead in the order in which the plan has them.
#pragma once

#include <vector>

#include "comm/communicator.h"
#include "engine/arena.h"
#include "engine/disk_file.h"

namespace ds {

class DiskWeights : public WeightSource {
public:
    struct Slot {
        int64_t offset = 0, bytes = 0;
    };  // in the file
    // Up to `buffers` slots and `ahead_bytes` are read ahead. A slot larger than a buffer is read when it is fetched.
    DiskWeights(DiskFile& file, std::vector<Slot> slots, int64_t buffers, int64_t buffer_bytes, int64_t ahead_bytes);
    ~DiskWeights() override;

    Status begin(std::vector<int64_t> order);  // what will be fetched from now on
    Status fetch(int64_t slot, void* to, int64_t bytes) override;
    int64_t bytes() const { return static_cast<int64_t>(memory_.size()); }

private:
    void read_ahead();

    DiskFile& file_;
    const std::vector<Slot> slots_;
    const int64_t buffer_bytes_, ahead_bytes_;
    Arena memory_;
    std::vector<DiskFile::Transfer> transfers_;  // of each buffer
    std::vector<int64_t> order_;
    std::vector<bool> ahead_;      // by place in order_: whether it was begun ahead
    size_t next_ = 0, begun_ = 0;  // places in order_
    int64_t in_flight_ = 0;        // bytes
};

}  // namespace ds
