#include "data/loader.h"

#include <chrono>

#include "data/threads.h"

namespace ds {
namespace {

Result<int64_t> number(const Json& cursor, const char* key) {
    const Json value = cursor.value(key, Json());
    const std::optional<uint64_t> found = whole_number(value);
    if (!found || *found > INT64_MAX)
        return fail(Code::E_CORRUPT, "data: cursor: {}: found {}, an integer from 0 is accepted", key, excerpt(value.dump()));
    return static_cast<int64_t>(*found);
}

}  // namespace

Loader::Loader(Samples samples, LoaderRules rules) : samples_(std::move(samples)), rules_(std::move(rules)) {
    rules_.order.samples = samples_.size();
    rules_.order.lengths = samples_.lengths();
}

Loader::~Loader() { stop(); }

Loader::Order Loader::order_of(uint64_t epoch) const {
    const std::lock_guard lock(order_mutex_);
    for (const Order& order : orders_)
        if (order->epoch == epoch) return order;
    if (orders_.size() >= 2) orders_.erase(orders_.begin());
    orders_.push_back(std::make_shared<const EpochOrder>(make_order(rules_.order, epoch)));
    return orders_.back();
}

Result<Batch> Loader::make_batch(const EpochOrder& order, int64_t batch) const {
    const CounterRandom random = CounterRandom(rules_.order.seed).at(order.epoch).at(1);
    std::vector<Sample> samples;
    for (const uint32_t index : order.rows(batch, rules_.shard_rank, rules_.order.shards)) {
        DS_TRY(Sample sample, samples_.get(index));
        samples_.task().disturb(sample, random.at(index));
        samples.push_back(std::move(sample));
    }
    return collate(samples, rules_.collate);
}

Loader::Product Loader::produce(const Order& order, Cursor at) const {
    Product out;
    if (at.batch >= order->count()) {
        out.status = Status(Code::END);
        out.after = {at.epoch + 1, 0};
        return out;
    }
    out.after = {at.epoch, at.batch + 1};
    try {
        Result<Batch> batch = make_batch(*order, at.batch);
        if (batch.ok()) out.batch = std::move(batch).value();
        else out.status = std::move(batch).status();
    } catch (...) {  // on a worker nothing above would catch it
        out.status = status_of_current_exception("data");
    }
    return out;
}

void Loader::start() {
    claim_ = cursor_;
    claimed_ = taken_ = 0;
    stopping_ = false;
    for (int64_t i = 0; i < rules_.workers; ++i) threads_.push_back(start_quiet_thread([this] { work(); }));
}

void Loader::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    products_.clear();
}

void Loader::work() {
    std::unique_lock lock(mutex_);
    while (true) {
        work_.wait(lock, [&] { return stopping_ || claimed_ < taken_ + static_cast<uint64_t>(rules_.prefetch); });
        if (stopping_) return;
        // The epoch's order is found under the lock: no ticket can be told before it is known.
        const Order order = order_of(claim_.epoch);
        const uint64_t ticket = claimed_++;
        const Cursor at = claim_;
        claim_ = at.batch >= order->count() ? Cursor{at.epoch + 1, 0} : Cursor{at.epoch, at.batch + 1};
        lock.unlock();
        Product product = produce(order, at);
        lock.lock();
        products_.emplace(ticket, std::move(product));
        ready_.notify_one();
    }
}

Status Loader::next(Batch& batch) {
    batch.clear();
    if (rules_.workers == 0) {
        const auto begin = std::chrono::steady_clock::now();
        const std::lock_guard lock(mutex_);
        Product product = produce(order_of(cursor_.epoch), cursor_);
        wait_seconds_ = wait_seconds_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        if (!product.status.ok()) return product.status;
        cursor_ = product.after;
        batch = std::move(product.batch);
        return product.status;
    }
    if (threads_.empty()) start();
    std::unique_lock lock(mutex_);
    if (!products_.contains(taken_)) {
        const auto begin = std::chrono::steady_clock::now();
        ready_.wait(lock, [&] { return products_.contains(taken_); });
        wait_seconds_ = wait_seconds_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    const auto found = products_.find(taken_);
    if (!found->second.status.ok()) return found->second.status;  // stays, so that the next call says it again
    Product product = std::move(found->second);
    products_.erase(found);
    cursor_ = product.after;
    ++taken_;
    lock.unlock();
    work_.notify_one();
    batch = std::move(product.batch);
    return product.status;
}

std::optional<int64_t> Loader::batches_per_epoch() const {
    uint64_t epoch;
    {
        const std::lock_guard lock(mutex_);
        epoch = cursor_.epoch;
    }
    return order_of(epoch)->count();
}

std::vector<std::string> Loader::label_names() const {
    const LabelRule* rule = samples_.task().label_rule();
    return rule ? rule->names() : std::vector<std::string>();
}

Result<Json> Loader::save() const {
    const std::lock_guard lock(mutex_);
    return Json{{"epoch", cursor_.epoch},
                {"batch", cursor_.batch},
                {"seed", rules_.order.seed},
                {"samples", samples_.size()},
                {"rows_per_batch", rules_.order.rows_per_batch},
                {"tokens_per_batch", rules_.order.tokens_per_part * rules_.order.parts}};
}

// The saved batch number, told in batches of this source's size. Another size has the same order of rows only where batches are
// plain runs of it.
Result<int64_t> Loader::batch_of(const Json& cursor) const {
    DS_TRY(const int64_t batch, number(cursor, "batch"));
    DS_TRY(const int64_t rows, number(cursor, "rows_per_batch"));
    DS_TRY(const int64_t tokens, number(cursor, "tokens_per_batch"));
    const OrderRules& order = rules_.order;
    const int64_t own_tokens = order.tokens_per_part * order.parts;
    if (rows == order.rows_per_batch && tokens == own_tokens) return batch;
    const std::string sizes = fmt::format("data: cursor: saved with {} rows and {} tokens a batch, now {} and {}", rows, tokens,
                                          order.rows_per_batch, own_tokens);
    if (rows == 0 || order.rows_per_batch == 0 || order.group_by_length) return fail(Code::E_STATE, "{}; the same are accepted", sizes);
    const int64_t limit = order.samples / rows + 1;
    const int64_t position = std::min(batch, limit) * rows;
    if (position >= order.samples) return (order.samples + order.rows_per_batch - 1) / order.rows_per_batch;
    if (position % order.rows_per_batch != 0) return fail(Code::E_STATE, "{}; row {} of the epoch does not begin a batch", sizes, position);
    return position / order.rows_per_batch;
}

Status Loader::restore(const Json& cursor) {
    if (!cursor.is_object()) return fail(Code::E_CORRUPT, "data: cursor: found {}, an object is accepted", excerpt(cursor.dump()));
    DS_TRY(const int64_t epoch, number(cursor, "epoch"));
    DS_TRY(const int64_t samples, number(cursor, "samples"));
    const std::optional<uint64_t> seed = whole_number(cursor.value("seed", Json()));
    if (!seed) return fail(Code::E_CORRUPT, "data: cursor: seed: an integer from 0 is needed");
    if (samples != samples_.size())
        return fail(Code::E_STATE, "data: cursor: saved with {} rows, these files and options give {}", samples, samples_.size());
    DS_TRY(const int64_t batch, batch_of(cursor));
    stop();
    const std::lock_guard lock(mutex_);
    if (rules_.order.seed != *seed) {
        const std::lock_guard orders(order_mutex_);
        rules_.order.seed = *seed;
        orders_.clear();
    }
    cursor_ = {static_cast<uint64_t>(epoch), batch};
    return ok();
}

}  // namespace ds
