// Batches made ahead of training by worker threads and handed out in order.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "data/collate.h"
#include "data/data.h"
#include "data/order.h"
#include "data/samples.h"

namespace ds {

struct LoaderRules {
    OrderRules order;  // lengths may be left empty: they are the samples'
    CollateRules collate;
    int64_t shard_rank = 0;
    int64_t workers = 1;
    int64_t prefetch = 4;
};

// Workers claim tickets, 0, 1, 2 ... since the last restore; each stands for one batch, or for an epoch's end. What a ticket holds
// depends on the cursor alone, so neither the number of workers nor their timing shows in the result.
class Loader : public DataSource {
public:
    Loader(Samples samples, LoaderRules rules);
    ~Loader() override;
    Status next(Batch& batch) override;
    Result<Json> save() const override;
    Status restore(const Json& cursor) override;
    std::optional<int64_t> rows() const override { return samples_.size(); }
    std::optional<int64_t> batches_per_epoch() const override;
    double wait_seconds() const override { return wait_seconds_.load(); }
    std::vector<std::string> label_names() const override;
    int64_t skipped_rows() const override { return samples_.skipped(); }

private:
    struct Cursor {
        uint64_t epoch = 0;
        int64_t batch = 0;
    };
    struct Product {
        Status status;
        Batch batch;
        Cursor after;  // where the consumer stands once it has taken this
    };
    using Order = std::shared_ptr<const EpochOrder>;

    void start();
    void stop();
    void work();
    Product produce(const Order& order, Cursor at) const;
    Result<Batch> make_batch(const EpochOrder& order, int64_t batch) const;
    Order order_of(uint64_t epoch) const;
    Result<int64_t> batch_of(const Json& cursor) const;

    const Samples samples_;
    LoaderRules rules_;  // the seed may change with restore, while no worker runs
    std::atomic<double> wait_seconds_{0};

    mutable std::mutex order_mutex_;
    mutable std::vector<Order> orders_;  // the latest two

    mutable std::mutex mutex_;
    std::condition_variable work_, ready_;
    Cursor cursor_;                     // of the next batch to hand out
    Cursor claim_;                      // of the next ticket
    uint64_t claimed_ = 0, taken_ = 0;  // tickets
    std::map<uint64_t, Product> products_;
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace ds
