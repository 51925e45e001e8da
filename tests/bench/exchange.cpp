// Sums over two ranks of one thread each, 64 MiB of f32 in each: in shared memory against the memcpy of as many bytes, over TCP on loopback
// by our exchange against Gloo's own all-reduce. Both pairs take turns; the best and the median of the rounds are printed. Usage:
// bench_exchange [rounds] [MiB]
#include <gloo/allreduce.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/hash_store.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "base/json.h"
#include "comm/world.h"
#include "support/ports.h"

namespace {

using namespace ds;
using Clock = std::chrono::steady_clock;
constexpr int kRanks = 2;

struct Times {
    std::vector<double> seconds;
    double best() const { return *std::min_element(seconds.begin(), seconds.end()); }
    double median() const {
        std::vector<double> sorted = seconds;
        std::sort(sorted.begin(), sorted.end());
        return sorted[sorted.size() / 2];
    }
};

// Two threads, each a rank, that do one thing after another together.
class Pair {
public:
    using Act = std::function<void(int rank)>;
    // Seconds from the moment both begin to the moment both are done.
    static double time(const Act& act) {
        std::barrier gate(kRanks);
        Clock::time_point begin;
        std::thread other([&] { gate.arrive_and_wait(), act(1); });
        gate.arrive_and_wait();
        begin = Clock::now();
        act(0);
        other.join();
        return std::chrono::duration<double>(Clock::now() - begin).count();
    }
};

void must(const Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::exit(1);
}

std::vector<std::unique_ptr<Communicator>> over_tcp() {
    std::vector<std::shared_ptr<World>> worlds(kRanks);
    const int port = job::free_ports();
    Pair::time([&](int rank) {
        const Json options = {{"rank", rank}, {"size", kRanks},  {"port", port},     {"one_host", true},    {"job", "bench"},
                              {"secret", ""}, {"interface", ""}, {"join_ms", 20000}, {"heartbeat_ms", 5000}};
        auto transport = join_by_plugin("gloo", options.dump());
        must(transport.status());
        worlds[static_cast<size_t>(rank)] = World::over(std::move(*transport), std::chrono::seconds(60));
    });
    std::vector<std::unique_ptr<Communicator>> ends;
    for (int rank = 0; rank < kRanks; ++rank)
        ends.push_back(worlds[static_cast<size_t>(rank)]->group("bench", {{0, 0, 0}, {1, 1, 0}}, rank, 0, 1));
    return ends;
}

std::vector<std::shared_ptr<gloo::rendezvous::Context>> gloos_own() {
    std::vector<std::shared_ptr<gloo::rendezvous::Context>> contexts(kRanks);
    gloo::rendezvous::HashStore store;
    Pair::time([&](int rank) {
        gloo::transport::tcp::attr attr("127.0.0.1");
        auto context = std::make_shared<gloo::rendezvous::Context>(rank, kRanks);
        auto device = gloo::transport::tcp::CreateDevice(attr);
        context->connectFullMesh(store, device);
        contexts[static_cast<size_t>(rank)] = context;
    });
    return contexts;
}

void add(void* sum, const void* a, const void* b, size_t n) {
    auto* to = static_cast<float*>(sum);
    const auto *x = static_cast<const float*>(a), *y = static_cast<const float*>(b);
    for (size_t i = 0; i < n; ++i) to[i] = x[i] + y[i];
}

}  // namespace

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 7;
    const int64_t mib = argc > 2 ? std::atoll(argv[2]) : 64, bytes = mib << 20;
    std::vector<std::vector<float>> data(kRanks, std::vector<float>(static_cast<size_t>(bytes / 4), 1.0f)), copies = data;
    const auto block = [&](int rank) { return Block{data[static_cast<size_t>(rank)].data(), bytes}; };
    auto local = local_group("test", {0, 1}, 1, std::chrono::seconds(60)), remote = over_tcp();
    const auto own = gloos_own();
    struct Row {
        const char* name;
        Pair::Act act;
        Times times;
    };
    std::vector<Row> rows{{"memcpy",
                           [&](int r) {
                               std::memcpy(copies[static_cast<size_t>(r)].data(), data[static_cast<size_t>(r)].data(),
                                           static_cast<size_t>(bytes));
                           },
                           {}},
                          {"shared memory",
                           [&](int r) {
                               must(local[static_cast<size_t>(r)]->all_reduce(block(r), DType::f32, Team{0, 1}));
                           },
                           {}},
                          {"processes, TCP",
                           [&](int r) {
                               must(remote[static_cast<size_t>(r)]->all_reduce(block(r), DType::f32, Team{0, 1}));
                           },
                           {}},
                          {"Gloo's own, TCP",
                           [&](int r) {
                               gloo::AllreduceOptions options(own[static_cast<size_t>(r)]);
                               options.setOutput(data[static_cast<size_t>(r)].data(), data[static_cast<size_t>(r)].size());
                               options.setReduceFunction(add);
                               gloo::allreduce(options);
                           },
                           {}}};
    for (int round = 0; round <= rounds; ++round)
        for (Row& row : rows) {
            for (auto& values : data) std::fill(values.begin(), values.end(), 1.0f);
            const double seconds = Pair::time(row.act);
            if (round > 0) row.times.seconds.push_back(seconds);  // the first round warms up
            if (row.name != rows[0].name && (data[0][0] != kRanks || data[1].back() != kRanks))
                return std::fprintf(stderr, "%s: a sum is wrong\n", row.name), 1;
        }
    for (const Row& row : rows)
        std::printf("%-16s %lld MiB: best %.2f ms, median %.2f ms\n", row.name, static_cast<long long>(mib), row.times.best() * 1e3,
                    row.times.median() * 1e3);
    std::printf("all-reduce in shared memory / memcpy of each rank's bytes: %.2f times as long (median)\n",
                rows[1].times.median() / rows[0].times.median());
    std::printf("Gloo's own / shared memory: %.2f; Gloo's own / processes: %.2f (medians)\n",
                rows[3].times.median() / rows[1].times.median(), rows[3].times.median() / rows[2].times.median());
    return 0;
}
