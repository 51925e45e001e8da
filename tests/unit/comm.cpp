// lib/comm: every backend passes one suite (tests/support/comm_suite.h). MPI runs it under mpirun: tests/unit/mpi.sh.
#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include "comm/world.h"
#include "support/comm_suite.h"
#include "support/ports.h"

using namespace ds;
using comm_suite::Group;

namespace {

void check(bool good, const std::string& what) { CHECK_MESSAGE(good, what); }

// One group of processes x locals ranks. The worlds live as long as their communicators.
Group over(std::vector<std::unique_ptr<Transport>> transports, int locals, int threads, std::chrono::milliseconds deadline) {
    std::vector<Member> members;
    const int n = static_cast<int>(transports.size()) * locals;
    for (int r = 0; r < n; ++r) members.push_back({r, r / locals, r % locals});
    Group group;
    for (auto& transport : transports) {
        const int p = transport->rank();
        const auto world = World::over(std::move(transport), deadline);
        for (int l = 0; l < locals; ++l) group.push_back(world->group("test", members, p * locals + l, 0, threads));
    }
    return group;
}

// Processes of the Gloo plug-in as threads of this one, or nothing where it is not built.
std::vector<std::unique_ptr<Transport>> gloo(int processes, const std::string& more = "") {
    const int mine = job::free_ports();
    std::vector<std::unique_ptr<Transport>> list(static_cast<size_t>(processes));
    std::vector<std::thread> joining;
    for (int r = 0; r < processes; ++r)
        joining.emplace_back([&, r] {
            auto joined = join_by_plugin(
                "gloo", fmt::format(R"({{"rank": {}, "size": {}, "port": {}, "join_ms": 300000{}}})", r, processes, mine, more));
            if (joined.ok()) list[static_cast<size_t>(r)] = std::move(*joined);
            else MESSAGE(joined.status().message());
        });
    for (auto& thread : joining) thread.join();
    return list;
}

bool has_gloo() {
    setenv("DSRT_BACKEND_PATH", DSRT_PLUGINS, 1);
    if (find_plugin("gloo").ok()) return true;
    std::puts("SKIPPED the Gloo backend: libdsrt_gloo.so is not built here");
    return false;
}

}  // namespace

TEST_CASE("comm/local") {
    for (const auto& [ranks, threads] : {std::pair{2, 1}, {3, 2}, {4, 1}})
        comm_suite::all(
            [&, n = ranks, t = threads](std::chrono::milliseconds deadline) {
                std::vector<int> numbers;
                for (int r = 0; r < n; ++r) numbers.push_back(r);
                return local_group("test", numbers, t, deadline);
            },
            threads, check);
}

TEST_CASE("comm/over_a_transport") {
    for (const auto& [processes, locals, threads] : {std::tuple{2, 1, 1}, {3, 1, 2}, {2, 2, 1}, {1, 3, 1}})
        comm_suite::all([&, p = processes, l = locals,
                         t = threads](std::chrono::milliseconds deadline) { return over(memory_transports(p), l, t, deadline); },
                        threads, check);
}

TEST_CASE("comm/gloo") {
    if (!has_gloo()) return;
    for (const auto& [processes, locals, threads] : {std::tuple{2, 1, 1}, {3, 1, 2}, {2, 2, 1}})
        comm_suite::all(
            [&, p = processes, l = locals, t = threads](std::chrono::milliseconds deadline) { return over(gloo(p), l, t, deadline); },
            threads, check);
}

// Ends that come at the same moment: one process leaves while another tells why the job is over.
TEST_CASE("comm/a_world_goes_while_it_is_told_of_a_failure") {
    if (!has_gloo()) return;
    for (int again = 0; again < 20; ++again) {
        std::vector<std::shared_ptr<World>> worlds;
        for (auto& transport : gloo(2)) worlds.push_back(World::over(std::move(transport), std::chrono::minutes(5)));
        std::thread other([&] { worlds[1]->abort(fail(Code::E_CANCELLED, "the test says so")); });
        worlds[0].reset();
        other.join();
    }
}

// Between the rendezvous, where all came, and the last connection.
TEST_CASE("comm/who_can_not_connect_is_named_everywhere") {
    if (!has_gloo()) return;
    for (int again = 0; again < 5; ++again) {
        const int port = job::free_ports();
        std::vector<std::thread> joining;
        for (int r = 0; r < 3; ++r)
            joining.emplace_back([port, r] {
                const char* interface = r == 1 ? "192.0.2.1" : "127.0.0.1";  // an address that no host has
                const auto joined = join_by_plugin(
                    "gloo",
                    fmt::format(
                        R"({{"rank": {}, "size": 3, "port": {}, "one_host": false, "address": "127.0.0.1", "interface": "{}", "secret": "a secret of this job", "join_ms": 300000}})",
                        r, port, interface));
                CHECK(joined.status().code() == Code::E_COMM);
                CHECK_MESSAGE(joined.status().message().find("rank 1 could not connect") != std::string::npos, joined.status().message());
            });
        for (auto& thread : joining) thread.join();
    }
}

TEST_CASE("comm/patience_ends_where_nobody_watches") {
    auto transports = memory_transports(2);
    const auto world = World::over(std::move(transports[0]), std::chrono::milliseconds(20));
    const auto all = world->exchange("ds_save", "", true);
    CHECK(all.status().code() == Code::E_TIMEOUT);
    CHECK_MESSAGE(all.status().message() == "ds_save: process 1 did not come within 0.2 s; it is late or gone", all.status().message());
}

TEST_CASE("comm/exchange_tells_everybody_everything") {
    auto transports = memory_transports(3);
    std::vector<std::shared_ptr<World>> worlds;
    for (auto& t : transports) worlds.push_back(World::over(std::move(t), std::chrono::seconds(20)));
    std::vector<std::thread> threads;
    for (int p = 0; p < 3; ++p)
        threads.emplace_back([&, p] {
            for (int again = 0; again < 5; ++again) {
                const auto all = worlds[static_cast<size_t>(p)]->exchange(
                    "greeting", std::string(static_cast<size_t>(p * again), static_cast<char>('a' + p)));
                REQUIRE(all.ok());
                for (int q = 0; q < 3; ++q)
                    CHECK((*all)[static_cast<size_t>(q)] == std::string(static_cast<size_t>(q * again), static_cast<char>('a' + q)));
            }
            const auto other = worlds[static_cast<size_t>(p)]->exchange(p == 1 ? "ds_step" : "ds_forward", "x");
            CHECK(other.status().code() == Code::E_COMM);
            CHECK(other.status().message().find("all processes must make the same calls") != std::string::npos);
        });
    for (auto& t : threads) t.join();
}
