#include "device/group.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <tuple>

#include "comm/roster.h"

namespace ds {
namespace {

using Clock = std::chrono::steady_clock;

// What a rank says when it comes to an exchange: what it sends to each member and expects from each.
struct Post {
    CommOp op = CommOp::all_to_all;
    DType dtype = DType::u8;
    std::vector<int64_t> send, receive;
};

struct Letter {
    Device* from = nullptr;
    void* parcel = nullptr;
    int64_t bytes = 0;
};

// What the ends of a group in this process share. Nobody waits here for an exchange: who comes compares what it will do with what the
// others said who came before. So ranks that do not run the same plan end with a message, where NCCL would hang.
struct Shared {
    Shared(Roster members, std::chrono::milliseconds wait)
        : roster(std::move(members)), deadline(wait), came(roster.ranks.size(), -1), labels(roster.ranks.size()) {}

    const Roster roster;
    const std::chrono::milliseconds deadline;
    std::shared_ptr<World> world;  // null: all members are here
    std::mutex mutex;
    std::condition_variable changed;
    Status failure;
    std::optional<BackendGroupId> id;
    std::vector<int64_t> came;                                   // of each member: exchanges it has come to; -1: it lives elsewhere
    std::map<int64_t, std::vector<std::pair<int, Post>>> posts;  // of exchanges that some have yet to come to
    static constexpr size_t kLabels = 64;
    std::vector<std::array<std::string, kLabels>> labels;                 // of each member's last exchanges
    std::map<std::tuple<int, int, int64_t>, std::deque<Letter>> letters;  // (from, to, tag)

    // With the mutex held.
    Status fail_with(Status status) {
        if (!failure.ok()) return failure;
        failure = std::move(status);
        changed.notify_all();
        return failure;
    }
    Status ended() {
        if (failure.ok() && world && world->failed()) static_cast<void>(fail_with(world->failure()));
        return failure;
    }
    void tell_world() const {  // without the mutex
        if (world && !failure.ok()) world->abort(failure);
    }
    std::string late(int64_t exchange) const {
        const auto is_late = [&](int member) {
            const int64_t n = came[static_cast<size_t>(member)];
            return n >= 0 && n < exchange;
        };
        return roster.late(is_late, "a rank");
    }
};

class DeviceEnd : public Communicator {
public:
    DeviceEnd(std::shared_ptr<Shared> group, int rank, Device& device, std::unique_ptr<Communicator> host)
        : Communicator(rank, group->roster.size()), group_(std::move(group)), device_(device), host_(std::move(host)) {
        group_->came[static_cast<size_t>(rank)] = 0;
    }
    ~DeviceEnd() override {
        device_.leave(member_);
        std::lock_guard lock(group_->mutex);
        for (auto& [key, list] : group_->letters)  // what nobody fetched lies on the sender's device
            if (std::get<0>(key) == rank())
                while (!list.empty()) device_.drop(list.front().parcel), list.pop_front();
    }

    Status all_to_all(std::span<const Block> send, std::span<const Block> receive, Team team) override {
        if (team.rank != 0) return ok();
        Post post{CommOp::all_to_all, DType::u8, {}, {}};
        for (int i = 0; i < size(); ++i)
            post.send.push_back(send[static_cast<size_t>(i)].bytes), post.receive.push_back(receive[static_cast<size_t>(i)].bytes);
        DS_CHECK(come(std::move(post)));
        const auto to = blocks(send), from = blocks(receive);
        return done(device_.exchange(member_, to.data(), from.data()));
    }

    Status reduce_scatter(std::span<const Block> send, Block out, DType dtype, Team team) override {
        if (team.rank != 0) return ok();
        Post post{CommOp::reduce_scatter, dtype, {}, std::vector<int64_t>(static_cast<size_t>(size()), out.bytes)};
        for (const Block& block : send) post.send.push_back(block.bytes);
        DS_CHECK(come(std::move(post)));
        return done(device_.reduce_scatter(member_, blocks(send).data(), {out.data, out.bytes}, dtype));
    }

    Status all_reduce(Block data, DType dtype, Team team) override {
        if (team.rank != 0) return ok();
        const std::vector<int64_t> bytes(static_cast<size_t>(size()), data.bytes);
        DS_CHECK(come({CommOp::all_reduce, dtype, bytes, bytes}));
        return done(device_.all_reduce(member_, {data.data, data.bytes}, dtype));
    }

    Status send(int to, int64_t tag, Block data) override {
        if (group_->came[static_cast<size_t>(to)] < 0) {  // of another process: by way of the hosts
            std::vector<std::byte> copy(static_cast<size_t>(data.bytes));
            DS_CHECK(done(device_.download(copy.data(), data.data, copy.size())));
            return host_->send(to, tag, {copy.data(), data.bytes});
        }
        auto parcel = device_.post(data.data, static_cast<size_t>(data.bytes));
        if (!parcel.ok()) return done(std::move(parcel).status());
        std::lock_guard lock(group_->mutex);
        group_->letters[{rank(), to, tag}].push_back({&device_, *parcel, data.bytes});
        group_->changed.notify_all();
        return ok();
    }

    Status receive(int from, int64_t tag, Block data) override {
        if (group_->came[static_cast<size_t>(from)] < 0) {
            std::vector<std::byte> copy(static_cast<size_t>(data.bytes));
            DS_CHECK(host_->receive(from, tag, {copy.data(), data.bytes}));
            return done(device_.upload(data.data, copy.data(), copy.size()));
        }
        DS_TRY(const Letter letter, wait_for(from, tag));
        if (letter.bytes == data.bytes) return done(device_.take(letter.parcel, data.data));
        letter.from->drop(letter.parcel);
        return done(group_->roster.wrong_size(from, letter.bytes, rank(), data.bytes));
    }

    Communicator& for_host_memory() override { return host_ ? *host_ : *this; }

    void abort(const Status& why) override {
        {
            std::lock_guard lock(group_->mutex);
            static_cast<void>(group_->fail_with(why));
        }
        if (host_) host_->abort(why);
    }

private:
    static std::vector<BackendBlock> blocks(std::span<const Block> list) {
        std::vector<BackendBlock> out;
        for (const Block& block : list) out.push_back({block.data, block.bytes});
        return out;
    }

    // A failure of this rank's is one of the group.
    Status done(Status status) {
        if (status.ok()) return status;
        {
            std::lock_guard lock(group_->mutex);
            const std::string place = device_.label();
            status = group_->fail_with(std::move(status).within(fmt::format("rank {} of the {} group{}{}", group_->roster.number(rank()),
                                                                            group_->roster.name, place.empty() ? "" : ": ", place)));
        }
        group_->tell_world();
        return status;
    }

    // The first exchange makes the group: its other members make theirs now too.
    Status come(Post post) {
        const std::string label = device_.label();
        Status status;
        {
            std::lock_guard lock(group_->mutex);
            if (Status ended = group_->ended(); !ended.ok()) return ended;
            const int64_t exchange = ++group_->came[static_cast<size_t>(rank())];
            group_->labels[static_cast<size_t>(rank())][static_cast<size_t>(exchange) % Shared::kLabels] = label;
            auto& others = group_->posts[exchange];
            for (const auto& [other, theirs] : others)
                if (status.ok()) status = compare(other, theirs, post);
            others.emplace_back(rank(), std::move(post));
            if (static_cast<int64_t>(others.size()) ==
                std::count_if(group_->came.begin(), group_->came.end(), [](int64_t n) { return n >= 0; }))
                group_->posts.erase(exchange);
        }
        if (!status.ok()) return done(std::move(status));
        return member_ ? ok() : join();
    }

    Status compare(int other, const Post& theirs, const Post& mine) const {
        if (theirs.op != mine.op || theirs.dtype != mine.dtype)
            return group_->roster.other_call(other, theirs.op, theirs.dtype, rank(), mine.op, mine.dtype);
        const auto me = static_cast<size_t>(rank()), they = static_cast<size_t>(other);
        for (const auto& [from, to, sent, expected] :
             {std::tuple(other, rank(), theirs.send[me], mine.receive[they]), {rank(), other, mine.send[they], theirs.receive[me]}})
            if (sent != expected) return group_->roster.wrong_size(from, sent, to, expected);
        return ok();
    }

    Status join() {
        BackendGroup group{.rank = rank(), .size = size(), .deadline_ms = group_->deadline.count(), .look = look, .user = this};
        DS_TRY(group.id, id());
        auto member = device_.join(group);
        if (!member.ok()) return done(std::move(member).status());
        member_ = *member;
        return ok();
    }

    // The first member makes it.
    Result<BackendGroupId> id() {
        if (rank() == 0 && !group_->world) {
            auto made = device_.group_id();
            if (!made.ok()) return done(std::move(made).status());
            std::lock_guard lock(group_->mutex);
            group_->id = *made;
            group_->changed.notify_all();
        }
        std::unique_lock lock(group_->mutex);
        if (!group_->changed.wait_for(lock, group_->deadline, [&] { return group_->id || !group_->failure.ok(); }))
            return group_->fail_with(overdue(1));
        if (!group_->failure.ok()) return group_->failure;
        return *group_->id;
    }

    Result<Letter> wait_for(int from, int64_t tag) {
        const auto until = Clock::now() + group_->deadline;
        std::unique_lock lock(group_->mutex);
        auto& list = group_->letters[{from, rank(), tag}];
        while (list.empty() && group_->ended().ok() && Clock::now() < until) group_->changed.wait_for(lock, std::chrono::milliseconds(20));
        if (list.empty() && group_->failure.ok()) return group_->fail_with(group_->roster.silent(from, group_->deadline));
        if (list.empty()) return group_->failure;
        const Letter letter = list.front();
        list.pop_front();
        return letter;
    }

    Status overdue(int64_t exchange) const {
        Status status = fail(Code::E_TIMEOUT, "{} did not come to a collective within {} s; it is late or gone", group_->late(exchange),
                             std::chrono::duration<double>(group_->deadline).count());
        const std::string& label = group_->labels[static_cast<size_t>(rank())][static_cast<size_t>(exchange) % Shared::kLabels];
        return label.empty() ? status : std::move(status).within(label);
    }

    static int32_t look(void* user, int64_t exchange, char* text, size_t bytes) {
        const auto& end = *static_cast<DeviceEnd*>(user);
        Status status;
        {
            std::lock_guard lock(end.group_->mutex);
            status = end.group_->ended();
            if (status.ok() && exchange > 0) status = end.group_->fail_with(end.overdue(exchange));
        }
        if (status.ok()) return 0;
        end.group_->tell_world();
        std::snprintf(text, bytes, "%s", status.message().c_str());
        return static_cast<int32_t>(status.code());
    }

    const std::shared_ptr<Shared> group_;
    Device& device_;
    const std::unique_ptr<Communicator> host_;  // to members in other processes; null: there are none
    void* member_ = nullptr;                    // of the device; from the first exchange on
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> device_group(std::string name, std::vector<int> ranks, const std::vector<Device*>& devices,
                                                        std::chrono::milliseconds deadline) {
    const auto group = std::make_shared<Shared>(Roster(std::move(name), std::move(ranks)), deadline);
    std::vector<std::unique_ptr<Communicator>> ends;
    for (size_t rank = 0; rank < devices.size(); ++rank)
        ends.push_back(std::make_unique<DeviceEnd>(group, static_cast<int>(rank), *devices[rank], nullptr));
    return ends;
}

std::vector<std::unique_ptr<Communicator>> device_group(const std::shared_ptr<World>& world, const std::string& name,
                                                        const std::vector<Member>& members, const std::vector<Device*>& devices,
                                                        int channel, const BackendGroupId& id) {
    std::vector<int> ranks;
    for (const Member& m : members) ranks.push_back(m.rank);
    const auto group = std::make_shared<Shared>(Roster(name, std::move(ranks)), world->deadline());
    group->world = world;
    group->id = id;
    std::vector<std::unique_ptr<Communicator>> ends;
    for (size_t rank = 0; rank < members.size(); ++rank)
        if (members[rank].process == world->process())
            ends.push_back(std::make_unique<DeviceEnd>(group, static_cast<int>(rank), *devices[ends.size()],
                                                       world->group(name, members, static_cast<int>(rank), channel, 1)));
    return ends;
}

}  // namespace ds
