#include "comm/world.h"

#include "comm/message.h"

namespace ds {
namespace {

constexpr int kExchangeChannel = 15;
constexpr int64_t kLargestExchange = int64_t{64} << 20;
constexpr std::chrono::hours kPatience{24 * 365};

uint32_t lane_of(int channel, int from_local, int to_local) {
    return static_cast<uint32_t>(channel) << 20 | static_cast<uint32_t>(from_local) << 10 | static_cast<uint32_t>(to_local);
}

}  // namespace

World::World(std::unique_ptr<Transport> transport, std::chrono::milliseconds deadline)
    : transport_(std::move(transport)), deadline_(deadline), within_(std::make_shared<Lanes>()) {}

std::shared_ptr<World> World::over(std::unique_ptr<Transport> transport, std::chrono::milliseconds deadline) {
    std::shared_ptr<World> world(new World(std::move(transport), deadline));
    world->transport_->on_failure([raw = world.get()](const Status& why) { raw->end(why); });
    return world;
}

World::~World() {
    transport_->on_failure(nullptr);
    {
        std::lock_guard lock(letters_mutex_);
        leaving_ = true;
    }
    letters_changed_.notify_all();
    if (postman_.joinable()) postman_.join();
}

void World::abort(const Status& why) {
    told_.store(true, std::memory_order_release);
    end(why);
}

void World::end(const Status& why) {
    {
        std::lock_guard lock(mutex_);
        if (failed_.load(std::memory_order_relaxed)) return;
        failure_ = why;
        failed_.store(true, std::memory_order_release);
    }
    within_->abort(why);
    transport_->abort(why);
    letters_changed_.notify_all();
}

Status World::failure() const {
    told_.store(true, std::memory_order_release);
    std::lock_guard lock(mutex_);
    return failure_;
}

Transport::Start World::send(const Member& to, int from_local, int channel, const void* data, size_t bytes) {
    if (failed()) return failure();
    const uint32_t lane = lane_of(channel, from_local, to.local);
    return to.process == process() ? within_->send({0, 0, lane}, data, bytes) : transport_->send(to.process, lane, data, bytes);
}

Transport::Start World::receive(const Member& from, int to_local, int channel, void* data, size_t bytes) {
    if (failed()) return failure();
    const uint32_t lane = lane_of(channel, from.local, to_local);
    return from.process == process() ? within_->receive({0, 0, lane}, data, bytes) : transport_->receive(from.process, lane, data, bytes);
}

void World::keep(std::unique_ptr<Letter> letter) {
    bool gone = true;
    for (const auto& part : letter->pending) gone &= part->done();
    if (gone) return;
    std::lock_guard lock(letters_mutex_);
    letters_.push_back(std::move(letter));
    if (!postman_.joinable()) postman_ = std::thread([this] { watch_letters(); });
    letters_changed_.notify_all();
}

// Waits for one letter after the other. One that is not fetched in time says that its receiver is gone, which the receiver of something
// else will say too.
void World::watch_letters() {
    for (;;) {
        std::unique_ptr<Letter> letter;
        {
            std::unique_lock lock(letters_mutex_);
            letters_changed_.wait(lock, [&] { return leaving_ || !letters_.empty(); });
            if (letters_.empty()) return;
            letter = std::move(letters_.front());
            letters_.pop_front();
        }
        for (auto& part : letter->pending)
            if (const Status status = part->wait(Clock::now() + deadline_); !status.ok()) end(status);
    }
}

// What ended the job, with the call that it ended here.
Status World::failure_in(std::string_view call) const {
    Status why = failure();
    return why.message().starts_with(call) ? why : std::move(why).within(call);
}

Result<std::vector<std::string>> World::exchange(std::string_view call, std::string mine, bool patient) {
    if (failed()) return failure_in(call);
    const std::chrono::milliseconds wait = !patient ? deadline_ : transport_->watches() ? kPatience : 10 * deadline_;
    const auto until = Clock::now() + wait;
    const uint64_t sequence = exchanges_++;
    const auto n = static_cast<size_t>(processes()), me = static_cast<size_t>(process());
    MessageHeader header{.sequence = sequence, .bytes = static_cast<int64_t>(mine.size())};
    header.set_call(call);
    std::vector<MessageHeader> heads(n);
    std::vector<std::string> all(n);
    std::vector<std::unique_ptr<Transport::Pending>> receives(n);
    std::vector<std::pair<size_t, std::unique_ptr<Transport::Pending>>> sends;
    const auto ended = [&](size_t p, Status status) {
        if (failed()) return failure_in(call);
        if (status.code() == Code::E_TIMEOUT)
            status = fail(Code::E_TIMEOUT, "process {} did not come within {} s; it is late or gone", p,
                          std::chrono::duration<double>(wait).count());
        Status full = std::move(status).within(call);
        abort(full);
        if (wants_caller()) serve([] { return true; });
        return full;
    };
    for (size_t i = 1; i < n; ++i) {
        const size_t p = (me + i) % n;
        for (const auto& [data, bytes] : {std::pair<const void*, size_t>{&header, sizeof header}, {mine.data(), mine.size()}}) {
            if (!bytes) continue;
            auto sent = transport_->send(static_cast<int>(p), lane_of(kExchangeChannel, 0, 0), data, bytes);
            if (!sent.ok()) return ended(p, std::move(sent).status());
            sends.emplace_back(p, std::move(*sent));
        }
        auto posted = transport_->receive(static_cast<int>(p), lane_of(kExchangeChannel, 0, 0), &heads[p], sizeof(MessageHeader));
        if (!posted.ok()) return ended(p, std::move(posted).status());
        receives[p] = std::move(*posted);
    }
    for (size_t i = 1; i < n; ++i) {
        const size_t p = (me + i) % n;
        if (Status status = receives[p]->wait(until); !status.ok()) return ended(p, std::move(status));
        const MessageHeader& head = heads[p];
        if (head.magic != MessageHeader::kMagic || head.op != CommOp::exchange || head.bytes < 0 || head.bytes > kLargestExchange)
            return ended(p, fail(Code::E_COMM, "process {} sent something that is no message", p));
        if (head.call_name() != header.call_name() || head.sequence != sequence)
            return ended(p, fail(Code::E_COMM,
                                 "process {} is in {} (its exchange {}) where process {} is in {} (exchange {}); all processes must make "
                                 "the same calls in the same order",
                                 p, head.call_name(), head.sequence, me, call, sequence));
        all[p].resize(static_cast<size_t>(head.bytes));
        receives[p].reset();
        if (head.bytes == 0) continue;
        auto posted = transport_->receive(static_cast<int>(p), lane_of(kExchangeChannel, 0, 0), all[p].data(), all[p].size());
        if (!posted.ok()) return ended(p, std::move(posted).status());
        receives[p] = std::move(*posted);
    }
    for (size_t p = 0; p < n; ++p)
        if (receives[p])
            if (Status status = receives[p]->wait(until); !status.ok()) return ended(p, std::move(status));
    for (auto& [p, sent] : sends)
        if (Status status = sent->wait(until); !status.ok()) return ended(p, std::move(status));
    all[me] = std::move(mine);
    return all;
}

}  // namespace ds
