// Places: which processor each thread of each rank runs on, and whose memory it uses. Cores are dealt out before their second hardware
// threads, ranks lie together within a NUMA node where they fit, and next to their GPU where there is one. Only processors that the process
// may use are used.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace ds {

struct Spot {
    int cpu = -1;   // the system's number of the processor; -1: anywhere
    int node = -1;  // of the NUMA node whose memory it uses; -1: where it happens to be
};

class Topology {
public:
    // This machine, and of it what this process may use (affinity, cpuset, container).
    static Result<Topology> here();
    // For tests: hwloc's synthetic description ("package:2 numanode:1 core:8 pu:2") or its XML; `allowed`: a list like "0-3,8", empty for
    // all.
    static Result<Topology> synthetic(const std::string& description, const std::string& allowed = "");
    static Result<Topology> of_xml(const std::string& xml, const std::string& allowed = "");

    int usable() const { return static_cast<int>(order_.size()); }
    bool is_whole() const { return whole_; }  // no launcher has bound this process to some of what its container allows
    int nodes() const { return nodes_; }
    int gpus() const { return static_cast<int>(gpus_.size()); }

    // Threads of the ranks first .. first + ranks of `all` ranks of this host, each with as many threads. On GPUs, rank i of the host is
    // next to GPU i.
    std::vector<std::vector<Spot>> deal(int ranks, int threads, int first, int all, bool on_gpus = false) const;

    Json describe() const;  // {"packages", "numa_nodes", "cores", "processors", "usable", "gpus": [[cpu ...] ...]}

private:
    struct Processor {
        int cpu = 0, node = -1, package = 0, core = 0, sibling = 0;  // sibling: which of its core's hardware threads
    };
    static Result<Topology> read(void* topology, const std::string& allowed, bool bound);
    std::vector<Spot> deal_from(const std::vector<Processor>& from, int64_t part, int64_t parts, int threads) const;

    std::vector<Processor> order_;        // usable ones: a package's cores, then their second threads
    std::vector<std::vector<int>> gpus_;  // of each GPU by bus number: the processors next to it
    int packages_ = 0, nodes_ = 0, cores_ = 0, processors_ = 0;
    bool whole_ = true;
};

// "rank 0: cpu 0-3 (node 0); rank 1: ..." and the like, for the log.
std::string to_string(const std::vector<std::vector<Spot>>& places, int first_rank);

// Binds the calling thread.
void stay_at(const Spot& spot);

}  // namespace ds
