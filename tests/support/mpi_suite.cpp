// One process of a job of mpirun: the conformance suite of comm, over the MPI plug-in. tests/unit/mpi.sh starts it.
#include <cstdio>

#include "comm/world.h"
#include "support/comm_suite.h"

using namespace ds;

int main() {
    int passed = 0, failed = 0, me = 0, n = 0;
    const auto check = [&](bool good, const std::string& what) {
        good ? ++passed : ++failed;
        if (!good) std::printf("FAILED %s\n", what.c_str());
    };
    for (const int threads : {1, 2})
        comm_suite::all(
            [&, t = threads](std::chrono::milliseconds deadline) {
                auto transport = join_by_plugin("mpi", R"({"join_ms": 60000})");
                if (!transport.ok()) {
                    std::printf("FAILED to join: %s\n", transport.status().message().c_str());
                    std::_Exit(1);
                }
                me = (*transport)->rank(), n = (*transport)->size();
                std::vector<Member> members;
                for (int r = 0; r < n; ++r) members.push_back({r, r, 0});
                comm_suite::Group group;
                group.push_back(World::over(std::move(*transport), deadline)->group("test", members, me, 0, t));
                return group;
            },
            threads, check);

    // The last process does not join again: it is the others that must not wait for it for ever.
    if (me != n - 1) {
        const auto alone = join_by_plugin("mpi", R"({"join_ms": 300})");
        check(!alone.ok() && alone.status().code() == Code::E_TIMEOUT &&
                  alone.status().message() == "mpi: not all 3 processes of the communicator joined within 0.3 s (comm.join_seconds)",
              "a join without a process: " + (alone.ok() ? "joined" : alone.status().message()));
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
