#include "comm/counted.h"

namespace ds {
namespace {

class Counted : public Communicator {
public:
    Counted(std::unique_ptr<Communicator> group, Sent& sent)
        : Communicator(group->rank(), group->size()), group_(std::move(group)), sent_(sent) {}

    Status all_to_all(std::span<const Block> send, std::span<const Block> receive, Team team) override {
        if (team.rank == 0) sent_.add(Traffic::all_to_all, to_others(send));
        return group_->all_to_all(send, receive, team);
    }
    Status reduce_scatter(std::span<const Block> send, Block out, DType dtype, Team team) override {
        if (team.rank == 0) sent_.add(Traffic::reduce_scatter, to_others(send));
        return group_->reduce_scatter(send, out, dtype, team);
    }
    // Each rank sums the near-even share of the elements that is its own and gives it to all: what others have of it comes in, so the rest
    // goes out.
    Status all_reduce(Block data, DType dtype, Team team) override {
        if (team.rank == 0) {
            const int64_t mine = near_even(data.bytes / size_of(dtype), rank(), size()).size() * size_of(dtype);
            sent_.add(Traffic::all_reduce, data.bytes - mine + mine * (size() - 1));
        }
        return group_->all_reduce(data, dtype, team);
    }
    Status all_gather(Block send, std::span<const Block> receive, Team team) override {
        if (team.rank == 0) sent_.add(Traffic::all_gather, send.bytes * (size() - 1));
        return group_->all_gather(send, receive, team);
    }
    Status send(int to, int64_t tag, Block data) override {
        sent_.add(Traffic::send, data.bytes);
        return group_->send(to, tag, data);
    }
    Status receive(int from, int64_t tag, Block data) override { return group_->receive(from, tag, data); }
    Communicator& for_host_memory() override { return group_->for_host_memory(); }
    void abort(const Status& why) override { group_->abort(why); }

private:
    int64_t to_others(std::span<const Block> send) const {
        int64_t bytes = 0;
        for (size_t i = 0; i < send.size(); ++i)
            if (static_cast<int>(i) != rank()) bytes += send[i].bytes;
        return bytes;
    }

    const std::unique_ptr<Communicator> group_;
    Sent& sent_;
};

}  // namespace

const char* name_of(Traffic kind) {
    static constexpr const char* names[kTraffics] = {"all_reduce", "reduce_scatter", "all_gather", "all_to_all", "send"};
    return names[static_cast<size_t>(kind)];
}

std::unique_ptr<Communicator> counted(std::unique_ptr<Communicator> group, Sent& sent) {
    return std::make_unique<Counted>(std::move(group), sent);
}

}  // namespace ds
