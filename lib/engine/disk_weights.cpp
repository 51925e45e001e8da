#include "engine/disk_weights.h"

#include <algorithm>
#include <cstring>

namespace ds {

DiskWeights::DiskWeights(DiskFile& file, std::vector<Slot> slots, int64_t buffers, int64_t buffer_bytes, int64_t ahead_bytes)
    : file_(file),
      slots_(std::move(slots)),
      buffer_bytes_(buffer_bytes),
      ahead_bytes_(ahead_bytes),
      transfers_(static_cast<size_t>(std::max<int64_t>(buffers, 1))) {}

DiskWeights::~DiskWeights() {
    for (DiskFile::Transfer& transfer : transfers_) static_cast<void>(transfer.wait());  // before their memory goes
}

Status DiskWeights::begin(std::vector<int64_t> order) {
    for (DiskFile::Transfer& transfer : transfers_) static_cast<void>(transfer.wait());  // of a run that was cancelled
    DS_CHECK(memory_.reserve(static_cast<size_t>(buffer_bytes_) * transfers_.size()));
    order_ = std::move(order);
    ahead_.assign(order_.size(), false);
    next_ = begun_ = 0;
    in_flight_ = 0;
    read_ahead();
    return ok();
}

void DiskWeights::read_ahead() {
    for (; begun_ < order_.size() && begun_ < next_ + transfers_.size(); ++begun_) {
        const Slot& slot = slots_[static_cast<size_t>(order_[begun_])];
        if (slot.bytes > buffer_bytes_) continue;
        if (in_flight_ + slot.bytes > ahead_bytes_) return;
        const size_t buffer = begun_ % transfers_.size();
        file_.read(transfers_[buffer], slot.offset, memory_.data() + static_cast<int64_t>(buffer) * buffer_bytes_, slot.bytes);
        in_flight_ += slot.bytes;
        ahead_[begun_] = true;
    }
}

Status DiskWeights::fetch(int64_t number, void* to, int64_t bytes) {
    const Slot& slot = slots_[static_cast<size_t>(number)];
    if (slot.bytes != bytes) return fail(Code::E_INTERNAL, "weights on disk: slot {} has {} bytes, not {}", number, slot.bytes, bytes);
    if (next_ >= order_.size() || order_[next_] != number) return file_.read_now(slot.offset, to, bytes);
    const size_t here = next_++;
    begun_ = std::max(begun_, next_);
    Status status;
    if (ahead_[here]) {
        const size_t buffer = here % transfers_.size();
        status = transfers_[buffer].wait();
        std::memcpy(to, memory_.data() + static_cast<int64_t>(buffer) * buffer_bytes_, static_cast<size_t>(bytes));
        in_flight_ -= bytes;
    } else status = file_.read_now(slot.offset, to, bytes);
    read_ahead();
    return status;
}

}  // namespace ds
