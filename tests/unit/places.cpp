// lib/exec/places: where the threads of ranks go, on machines that are not here.
#include "exec/places.h"

#include <doctest/doctest.h>
#include <sched.h>

#include <set>
#include <thread>

using namespace ds;

namespace {

std::vector<int> cpus(const std::vector<Spot>& spots) {
    std::vector<int> out;
    for (const Spot& s : spots) out.push_back(s.cpu);
    return out;
}

// Two packages of 8 cores of 2 hardware threads, each its own NUMA node. Core c has the processors 2c and 2c + 1.
constexpr const char* kTwoSockets = "package:2 numanode:1 core:8 pu:2";

// The same with four GPUs at each package, in hwloc's XML.
std::string with_gpus() {
    std::string xml =
        R"(<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE topology SYSTEM "hwloc2.dtd"><topology version="2.0">)"
        R"(<object type="Machine" os_index="0" cpuset="0x0000ffff" complete_cpuset="0x0000ffff" allowed_cpuset="0x0000ffff" nodeset="0x3" complete_nodeset="0x3" allowed_nodeset="0x3" gp_index="1">)";
    int id = 2;
    for (int package = 0; package < 2; ++package) {
        const std::string sets = fmt::format(R"(cpuset="0x{:08x}" complete_cpuset="0x{:08x}" nodeset="0x{}" complete_nodeset="0x{}")",
                                             0xff << 8 * package, 0xff << 8 * package, 1 << package, 1 << package);
        xml += fmt::format(
            R"(<object type="Package" os_index="{}" {} gp_index="{}"><object type="NUMANode" os_index="{}" {} gp_index="{}" local_memory="68719476736"/>)",
            package, sets, id, package, sets, id + 1);
        id += 2;
        for (int core = 0; core < 8; ++core) {
            const int cpu = 8 * package + core;
            const std::string own = fmt::format(R"(cpuset="0x{:08x}" complete_cpuset="0x{:08x}" nodeset="0x{}" complete_nodeset="0x{}")",
                                                1 << cpu, 1 << cpu, 1 << package, 1 << package);
            xml += fmt::format(
                R"(<object type="Core" os_index="{}" {} gp_index="{}"><object type="PU" os_index="{}" {} gp_index="{}"/></object>)", core,
                own, id, cpu, own, id + 1);
            id += 2;
        }
        const int bus = package ? 0x80 : 0x10;
        xml += fmt::format(R"(<object type="Bridge" gp_index="{}" bridge_type="0-1" depth="0" bridge_pci="0000:[{:02x}-{:02x}]">)", id++,
                           bus, bus + 8);
        for (int gpu = 0; gpu < 4; ++gpu)
            xml += fmt::format(
                R"(<object type="PCIDev" gp_index="{}" pci_busid="0000:{:02x}:00.0" pci_type="0302 [10de:2330] [0000:0000] a1" pci_link_speed="31.5"/>)",
                id++, bus + gpu);
        xml += "</object></object>";
    }
    return xml + "</object></topology>";
}

}  // namespace

TEST_CASE("places/cores_come_before_second_threads_and_ranks_stay_in_a_node") {
    const auto machine = Topology::synthetic(kTwoSockets);
    REQUIRE(machine.ok());
    CHECK(machine->usable() == 32);
    CHECK(machine->is_whole());
    const auto two = machine->deal(2, 8, 0, 2);
    CHECK(cpus(two[0]) == std::vector<int>{0, 2, 4, 6, 8, 10, 12, 14});
    CHECK(cpus(two[1]) == std::vector<int>{16, 18, 20, 22, 24, 26, 28, 30});
    CHECK(two[0][0].node == 0);
    CHECK(two[1][7].node == 1);
    CHECK(cpus(machine->deal(1, 16, 1, 2)[0]) == std::vector<int>{16, 18, 20, 22, 24, 26, 28, 30, 17, 19, 21, 23, 25, 27, 29, 31});
    std::set<int> all;
    for (const auto& rank : machine->deal(4, 4, 0, 4))
        for (const Spot& s : rank) {
            all.insert(s.cpu);
            CHECK(s.node == rank[0].node);
        }
    CHECK(all.size() == 16);
    CHECK(to_string(machine->deal(1, 2, 1, 2), 1) == "rank 1: 16 18 (memory of node 1)");
}

TEST_CASE("places/processes_of_one_host_get_different_processors") {
    const auto machine = Topology::synthetic(kTwoSockets);
    REQUIRE(machine.ok());
    std::set<int> all;
    for (int process = 0; process < 4; ++process)
        for (const auto& rank : machine->deal(2, 2, 2 * process, 8))
            for (const Spot& s : rank) CHECK(all.insert(s.cpu).second);
    CHECK(all.size() == 16);
}

TEST_CASE("places/limits_are_honoured_and_too_many_threads_are_not_bound") {
    const auto some = Topology::synthetic(kTwoSockets, "4,6,18");
    REQUIRE(some.ok());
    CHECK(some->usable() == 3);
    CHECK(!some->is_whole());
    CHECK(cpus(some->deal(1, 3, 0, 1)[0]) == std::vector<int>{4, 6, 18});
    CHECK(cpus(some->deal(1, 4, 0, 1)[0]) == std::vector<int>{-1, -1, -1, -1});
    CHECK(!Topology::synthetic(kTwoSockets, "40").ok());
    CHECK(!Topology::synthetic("nonsense").ok());
}

TEST_CASE("places/ranks_on_gpus_are_next_to_them") {
    const auto machine = Topology::of_xml(with_gpus());
    REQUIRE(machine.ok());
    REQUIRE(machine->gpus() == 8);
    const auto places = machine->deal(8, 2, 0, 8, true);
    std::set<int> all;
    for (int r = 0; r < 8; ++r)
        for (const Spot& s : places[static_cast<size_t>(r)]) {
            CHECK(s.node == r / 4);
            CHECK(s.cpu / 8 == r / 4);
            CHECK(all.insert(s.cpu).second);
        }
    CHECK(machine->describe()["gpus"].size() == 8);
}

TEST_CASE("places/this_machine_and_only_threads_that_ask_are_moved") {
    cpu_set_t before, after, other;
    REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
    const auto machine = Topology::here();
    REQUIRE(machine.ok());
    CHECK(machine->usable() == CPU_COUNT(&before));
    const Spot spot = machine->deal(1, 1, 0, 1)[0][0];
    std::thread([&] {
        stay_at(spot);
        sched_getaffinity(0, sizeof other, &other);
    }).join();
    CHECK(CPU_COUNT(&other) == 1);
    CHECK(CPU_ISSET(spot.cpu, &other));
    REQUIRE(sched_getaffinity(0, sizeof after, &after) == 0);
    CHECK(CPU_EQUAL(&before, &after));
}
