// What every backend of Communicator must do. A group is all its members in one process (threads) or, under mpirun, one member a process.
#pragma once

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"

namespace comm_suite {

using namespace ds;
using Group = std::vector<std::unique_ptr<Communicator>>;  // those members that live in this process
using Check = std::function<void(bool good, const std::string& what)>;

inline Block block(std::vector<std::byte>& v) { return {v.data(), static_cast<int64_t>(v.size())}; }

// Every thread of every member runs f.
inline void run(Group& group, int threads, const std::function<void(Communicator&, Team)>& f) {
    std::vector<std::thread> list;
    for (auto& member : group)
        for (int t = 0; t < threads; ++t) list.emplace_back([&, t] { f(*member, Team{t, threads}); });
    for (auto& thread : list) thread.join();
}
// The same with one thread a member.
inline void run_alone(Group& group, const std::function<void(Communicator&)>& f) {
    run(group, 1, [&](Communicator& c, Team) { f(c); });
}

inline std::byte pattern(int from, int to, int64_t i) { return static_cast<std::byte>(from * 89 + to * 31 + i * 7 + (i >> 8) * 13); }

inline void exchanges_blocks_of_any_size(Group& group, int threads, const Check& check) {
    for (const int64_t base : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{4097}, int64_t{1000003}}) {
        const auto bytes = [&](int from, int to) {
            return (from + to) % 3 == 0 ? int64_t{0} : base + base * to / 3 + from;
        };  // sizes differ, some are 0
        std::vector<std::vector<std::vector<std::byte>>> sends(group.size()), receives(group.size());
        std::vector<std::vector<Block>> out(group.size()), in(group.size());
        for (size_t g = 0; g < group.size(); ++g)
            for (int p = 0; p < group[g]->size(); ++p) {
                sends[g].emplace_back(static_cast<size_t>(bytes(group[g]->rank(), p)));
                for (size_t i = 0; i < sends[g].back().size(); ++i)
                    sends[g].back()[i] = pattern(group[g]->rank(), p, static_cast<int64_t>(i));
                receives[g].emplace_back(static_cast<size_t>(bytes(p, group[g]->rank())), std::byte{0xaa});
            }
        for (size_t g = 0; g < group.size(); ++g)
            for (size_t p = 0; p < sends[g].size(); ++p) out[g].push_back(block(sends[g][p])), in[g].push_back(block(receives[g][p]));
        run(group, threads, [&](Communicator& c, Team team) {
            for (size_t g = 0; g < group.size(); ++g)
                if (group[g].get() == &c)
                    if (const Status s = c.all_to_all(out[g], in[g], team); !s.ok()) check(false, "all_to_all: " + s.message());
        });
        bool same = true;
        for (size_t g = 0; g < group.size(); ++g)
            for (size_t p = 0; p < receives[g].size(); ++p)
                for (size_t i = 0; i < receives[g][p].size(); ++i)
                    same &= receives[g][p][i] == pattern(static_cast<int>(p), group[g]->rank(), static_cast<int64_t>(i));
        check(same, fmt::format("all_to_all of about {} bytes gives every rank what the others sent it", base));
    }
}

// Numbers whose sum depends on the order of summation.
inline double number(int rank, int64_t i) {
    return (rank % 2 ? -1.0 : 1.0) * (1.0 + 0.37 * rank + 0.001 * static_cast<double>(i % 997)) * (i % 5 == 0 ? 1024.0 : 0.3);
}

inline std::vector<std::byte> numbers(DType dtype, int rank, int64_t n) {
    std::vector<double> wide(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) wide[static_cast<size_t>(i)] = number(rank, i);
    std::vector<std::byte> out(static_cast<size_t>(n * size_of(dtype)));
    convert(wide.data(), DType::f64, out.data(), dtype, n);
    return out;
}

// The sum in the order of ranks, in f32 (f64 for f64).
inline std::vector<std::byte> expected_sum(DType dtype, int ranks, int64_t n) {
    std::vector<std::byte> out(static_cast<size_t>(n * size_of(dtype)));
    const auto add = [&](auto zero) {
        using T = decltype(zero);
        constexpr DType wide_type = std::is_same_v<T, double> ? DType::f64 : DType::f32;
        std::vector<T> sum(static_cast<size_t>(n)), wide(sum.size());
        for (int r = 0; r < ranks; ++r) {
            convert(numbers(dtype, r, n).data(), dtype, wide.data(), wide_type, n);
            for (size_t i = 0; i < sum.size(); ++i) sum[i] = r ? static_cast<T>(sum[i] + wide[i]) : wide[i];
        }
        convert(sum.data(), wide_type, out.data(), dtype, n);
    };
    if (dtype == DType::f64) add(0.0);
    else add(0.0f);
    return out;
}

inline void sums_in_the_order_of_ranks(Group& group, int threads, const Check& check) {
    const int ranks = group.front()->size();
    for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
        for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{7}, int64_t{1000}, int64_t{100003}}) {
            std::vector<std::vector<std::byte>> data;
            for (auto& member : group) data.push_back(numbers(dtype, member->rank(), n));
            const std::vector<std::byte> expected = expected_sum(dtype, ranks, n);
            run(group, threads, [&](Communicator& c, Team team) {
                for (size_t g = 0; g < group.size(); ++g)
                    if (group[g].get() == &c)
                        if (const Status s = c.all_reduce(block(data[g]), dtype, team); !s.ok()) check(false, "all_reduce: " + s.message());
            });
            bool same = true;
            for (const auto& result : data) same &= result == expected;
            check(same, fmt::format("all_reduce of {} x {} sums in the order of ranks, bit for bit", n, name_of(dtype)));

            // The same in parts of different sizes, each rank's into its own place.
            const auto begin_of = [&](int r) { return n * r * r / (ranks * ranks); };
            std::vector<std::vector<Block>> parts(group.size());
            for (size_t g = 0; g < group.size(); ++g) {
                data[g] = numbers(dtype, group[g]->rank(), n);
                for (int r = 0; r < ranks; ++r)
                    parts[g].push_back({data[g].data() + begin_of(r) * size_of(dtype), (begin_of(r + 1) - begin_of(r)) * size_of(dtype)});
            }
            run(group, threads, [&](Communicator& c, Team team) {
                for (size_t g = 0; g < group.size(); ++g)
                    if (group[g].get() == &c)
                        if (const Status s = c.reduce_scatter(parts[g], parts[g][static_cast<size_t>(c.rank())], dtype, team); !s.ok())
                            check(false, "reduce_scatter: " + s.message());
            });
            same = true;
            for (size_t g = 0; g < group.size(); ++g) {
                const Block mine = parts[g][static_cast<size_t>(group[g]->rank())];
                same &= mine.bytes == 0 || std::memcmp(mine.data, expected.data() + begin_of(group[g]->rank()) * size_of(dtype),
                                                       static_cast<size_t>(mine.bytes)) == 0;
            }
            check(same, fmt::format("reduce_scatter of {} x {} leaves each rank its part of the same sum", n, name_of(dtype)));
            run(group, threads, [&](Communicator& c, Team team) {
                for (size_t g = 0; g < group.size(); ++g)
                    if (group[g].get() == &c)
                        if (const Status s = c.all_gather(parts[g][static_cast<size_t>(c.rank())], parts[g], team); !s.ok())
                            check(false, "all_gather: " + s.message());
            });
            same = true;
            for (const auto& result : data) same &= result == expected;
            check(same, fmt::format("all_gather of {} x {} puts the parts together", n, name_of(dtype)));
        }
}

inline void carries_messages(Group& group, const Check& check) {
    std::atomic<bool> same{true};
    run_alone(group, [&](Communicator& c) {
        const int to = (c.rank() + 1) % c.size(), from = (c.rank() + c.size() - 1) % c.size();
        std::vector<std::vector<std::byte>> letters;
        for (int64_t i = 0; i < 12; ++i) {  // two tags; all is sent before anything is received
            letters.emplace_back(static_cast<size_t>(i * i * 1777));
            for (size_t k = 0; k < letters.back().size(); ++k)
                letters.back()[k] = pattern(c.rank(), static_cast<int>(i), static_cast<int64_t>(k));
            if (const Status s = c.send(to, i % 2, block(letters.back())); !s.ok()) check(false, "send: " + s.message());
            std::fill(letters.back().begin(), letters.back().end(), std::byte{0});
        }
        for (const int64_t tag : {1, 0})
            for (int64_t i = tag; i < 12; i += 2) {
                std::vector<std::byte> got(static_cast<size_t>(i * i * 1777));
                if (const Status s = c.receive(from, tag, block(got)); !s.ok()) check(false, "receive: " + s.message());
                for (size_t k = 0; k < got.size(); ++k)
                    if (got[k] != pattern(from, static_cast<int>(i), static_cast<int64_t>(k))) same = false;
            }
    });
    check(same, "messages of one tag arrive in order, whatever the order of tags, and senders do not wait");
}

using Make = std::function<Group(std::chrono::milliseconds deadline)>;

// Each breaks the group, so each has one of its own.
inline void notices_what_does_not_fit(const Make& make, int threads, const Check& check) {
    const auto all_end = [&](const std::string& what, const std::function<Status(Communicator&, Block, Team)>& call) {
        Group group = make(std::chrono::minutes(5));
        std::vector<std::vector<std::byte>> data(static_cast<size_t>(group.front()->size()), std::vector<std::byte>(4096 * 4));
        run(group, threads, [&](Communicator& c, Team team) {
            const Status status = call(c, block(data[static_cast<size_t>(c.rank())]), team);
            check(status.code() == Code::E_COMM && status.message().find("do not run the same plan") != std::string::npos,
                  fmt::format("{}: rank {} ends with DS_E_COMM, but says {}: {}", what, c.rank(), code_name(status.code()),
                              status.message()));
        });
    };
    all_end("another size", [&](Communicator& c, Block b, Team team) {
        return c.all_reduce({b.data, c.rank() == 1 ? b.bytes / 2 : b.bytes}, DType::f32, team);
    });
    all_end("another type",
            [&](Communicator& c, Block b, Team team) { return c.all_reduce(b, c.rank() == 1 ? DType::bf16 : DType::f32, team); });
    all_end("another call", [&](Communicator& c, Block b, Team team) {
        if (c.rank() != 1) return c.all_reduce(b, DType::f32, team);
        std::vector<Block> parts(static_cast<size_t>(c.size()), Block{b.data, 256});
        return c.reduce_scatter(parts, parts[1], DType::f32, team);
    });
}

inline void ends_for_all_when_one_aborts(const Make& make, int threads, const Check& check) {
    Group group = make(std::chrono::minutes(5));
    std::vector<std::vector<float>> data(static_cast<size_t>(group.front()->size()), std::vector<float>(100000));
    run(group, threads, [&](Communicator& c, Team team) {
        if (c.rank() == c.size() - 1) {
            if (team.rank == 0) {
                std::this_thread::sleep_for(std::chrono::milliseconds(50));
                c.abort(fail(Code::E_CANCELLED, "the test says so"));
            }
            return;
        }
        for (int again = 0; again < 2; ++again) {
            const Status status = c.all_reduce({data[static_cast<size_t>(c.rank())].data(), 400000}, DType::f32, team);
            check(
                status.code() == Code::E_CANCELLED && status.message().find("the test says so") != std::string::npos,
                fmt::format("abort: rank {} ends with the reason, but says {}: {}", c.rank(), code_name(status.code()), status.message()));
        }
    });
}

inline void ends_when_one_does_not_come(const Make& make, int threads, const Check& check) {
    Group group = make(std::chrono::milliseconds(300));
    const auto begin = std::chrono::steady_clock::now();
    std::vector<std::vector<float>> data(static_cast<size_t>(group.front()->size()), std::vector<float>(1000));
    run(group, threads, [&](Communicator& c, Team team) {
        if (c.rank() == 0) return std::this_thread::sleep_for(std::chrono::milliseconds(700));
        const Status status = c.all_reduce({data[static_cast<size_t>(c.rank())].data(), 4000}, DType::f32, team);
        check(status.code() == Code::E_TIMEOUT, fmt::format("deadline: rank {} ends with DS_E_TIMEOUT, but says {}: {}", c.rank(),
                                                            code_name(status.code()), status.message()));
        if (c.size() == 2)
            check(status.message().find("rank 0") != std::string::npos,
                  "deadline: the rank that did not come is named: " + status.message());
    });
    check(std::chrono::steady_clock::now() - begin < std::chrono::minutes(1), "deadline: nobody waits for ever");
}

inline void all(const Make& make, int threads, const Check& check) {
    {
        Group group = make(std::chrono::minutes(5));
        exchanges_blocks_of_any_size(group, threads, check);
        sums_in_the_order_of_ranks(group, threads, check);
        carries_messages(group, check);
    }
    notices_what_does_not_fit(make, threads, check);
    ends_for_all_when_one_aborts(make, threads, check);
    ends_when_one_does_not_come(make, threads, check);
}

}  // namespace comm_suite
