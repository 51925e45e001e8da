#include "exec/places.h"

#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <map>

#include "base/per_process.h"

namespace ds {
namespace {

struct Owned {
    hwloc_topology_t topology = nullptr;
    ~Owned() {
        if (topology) hwloc_topology_destroy(topology);
    }
};

// Of devices only those on the PCI bus: hwloc would also ask OpenCL and X servers for theirs.
Status load(Owned& owned) {
    hwloc_topology_set_type_filter(owned.topology, HWLOC_OBJ_PCI_DEVICE, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(owned.topology) != 0) return fail(Code::E_INTERNAL, "hwloc: the machine's topology can't be read");
    return ok();
}

// This machine, discovered once: that takes milliseconds, and hwloc's plug-ins leave memory behind each time they are unloaded.
struct Machine {
    Owned owned;
    Status status;
    explicit Machine(bool) {
        status = hwloc_topology_init(&owned.topology) == 0 ? load(owned) : fail(Code::E_INTERNAL, "hwloc: out of memory");
    }
};
constinit PerProcess<Machine> this_machine;

int ancestor(hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_obj_t of) {
    const hwloc_obj_t found = hwloc_get_ancestor_obj_by_type(topology, type, of);
    return found ? static_cast<int>(found->logical_index) : 0;
}

bool is_gpu(hwloc_obj_t device) {
    const unsigned kind = device->attr->pcidev.class_id;
    return device->attr->pcidev.vendor_id == 0x10de && (kind == 0x0300 || kind == 0x0302);
}

}  // namespace

Result<Topology> Topology::here() {
    const Machine& machine = this_machine.get();
    DS_CHECK(machine.status);
    return read(machine.owned.topology, "", true);
}

Result<Topology> Topology::synthetic(const std::string& description, const std::string& allowed) {
    Owned owned;
    if (hwloc_topology_init(&owned.topology) != 0 || hwloc_topology_set_synthetic(owned.topology, description.c_str()) != 0)
        return fail(Code::E_INVALID_ARGUMENT, "hwloc: {} is no synthetic topology", description);
    DS_CHECK(load(owned));
    return read(owned.topology, allowed, false);
}

Result<Topology> Topology::of_xml(const std::string& xml, const std::string& allowed) {
    Owned owned;
    if (hwloc_topology_init(&owned.topology) != 0 ||
        hwloc_topology_set_xmlbuffer(owned.topology, xml.c_str(), static_cast<int>(xml.size() + 1)) != 0)
        return fail(Code::E_INVALID_ARGUMENT, "hwloc: this is no topology in XML");
    DS_CHECK(load(owned));
    return read(owned.topology, allowed, false);
}

Result<Topology> Topology::read(void* raw, const std::string& allowed, bool bound) {
    const auto topology = static_cast<hwloc_topology_t>(raw);
    Topology out;
    hwloc_bitmap_t usable = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(topology));
    hwloc_bitmap_t limit = hwloc_bitmap_alloc();
    const int allowed_here = hwloc_bitmap_weight(usable);  // by the machine and the container
    if (!allowed.empty() && hwloc_bitmap_list_sscanf(limit, allowed.c_str()) == 0) hwloc_bitmap_and(usable, usable, limit);
    if (bound && hwloc_get_cpubind(topology, limit, HWLOC_CPUBIND_PROCESS) == 0) hwloc_bitmap_and(usable, usable, limit);
    out.packages_ = std::max(hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PACKAGE), 1);
    out.nodes_ = std::max(hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE), 1);
    out.cores_ = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    out.processors_ = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    std::map<int, int> threads_of_core;
    for (hwloc_obj_t pu = nullptr; (pu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, pu));) {
        if (!hwloc_bitmap_isset(usable, pu->os_index)) continue;
        Processor p{static_cast<int>(pu->os_index), -1, ancestor(topology, HWLOC_OBJ_PACKAGE, pu), ancestor(topology, HWLOC_OBJ_CORE, pu),
                    0};
        if (out.cores_ == 0) p.core = static_cast<int>(pu->logical_index);
        p.sibling = threads_of_core[p.core]++;
        const int node = pu->nodeset ? hwloc_bitmap_first(pu->nodeset) : -1;
        p.node = node;
        out.order_.push_back(p);
    }
    std::stable_sort(out.order_.begin(), out.order_.end(), [](const Processor& a, const Processor& b) {
        return std::tie(a.sibling, a.package, a.node) < std::tie(b.sibling, b.package, b.node);
    });
    out.whole_ = static_cast<int>(out.order_.size()) == allowed_here;
    std::map<std::tuple<unsigned, unsigned, unsigned, unsigned>, std::vector<int>> gpus;
    for (hwloc_obj_t device = nullptr; (device = hwloc_get_next_pcidev(topology, device));) {
        if (!is_gpu(device)) continue;
        const hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(topology, device);
        const auto& bus = device->attr->pcidev;
        auto& list = gpus[{bus.domain, bus.bus, bus.dev, bus.func}];
        for (const Processor& p : out.order_)
            if (near && near->cpuset && hwloc_bitmap_isset(near->cpuset, static_cast<unsigned>(p.cpu))) list.push_back(p.cpu);
    }
    for (auto& [bus, list] : gpus) out.gpus_.push_back(std::move(list));
    hwloc_bitmap_free(limit);
    hwloc_bitmap_free(usable);
    if (out.order_.empty()) return fail(Code::E_INVALID_ARGUMENT, "hwloc: there is no processor that this process may use");
    return out;
}

// Share `part` of `parts` of the first threads of cores, and of the second ones where those are too few. More threads than processors: they
// take turns, unbound.
std::vector<Spot> Topology::deal_from(const std::vector<Processor>& from, int64_t part, int64_t parts, int threads) const {
    std::vector<Processor> mine;
    int siblings = 0;
    for (const Processor& p : from) siblings = std::max(siblings, p.sibling + 1);
    for (int s = 0; s < siblings; ++s) {
        std::vector<Processor> level;
        for (const Processor& p : from)
            if (p.sibling == s) level.push_back(p);
        const auto n = static_cast<int64_t>(level.size());
        for (int64_t i = n * part / parts; i < n * (part + 1) / parts; ++i) mine.push_back(level[static_cast<size_t>(i)]);
    }
    if (static_cast<int>(mine.size()) < threads) return std::vector<Spot>(static_cast<size_t>(threads));
    std::vector<Spot> spots;
    for (int t = 0; t < threads; ++t)
        spots.push_back({mine[static_cast<size_t>(t)].cpu, nodes_ > 1 ? mine[static_cast<size_t>(t)].node : -1});
    return spots;
}

std::vector<std::vector<Spot>> Topology::deal(int ranks, int threads, int first, int all, bool on_gpus) const {
    std::vector<std::vector<Spot>> places;
    for (int r = first; r < first + ranks; ++r) {
        if (!on_gpus || gpus_.empty()) {
            places.push_back(deal_from(order_, r, all, threads));
            continue;
        }
        // Ranks whose GPUs lie at the same processors share those.
        const std::vector<int>& near = gpus_[static_cast<size_t>(r) % gpus_.size()];
        int before = 0, sharing = 0;
        for (int other = 0; other < all; ++other) {
            if (gpus_[static_cast<size_t>(other) % gpus_.size()] != near) continue;
            before += other < r;
            ++sharing;
        }
        std::vector<Processor> from;
        for (const Processor& p : order_)
            if (std::find(near.begin(), near.end(), p.cpu) != near.end()) from.push_back(p);
        places.push_back(deal_from(from, before, sharing, threads));
    }
    return places;
}

Json Topology::describe() const {
    return {{"packages", packages_},     {"numa_nodes", nodes_}, {"cores", cores_},
            {"processors", processors_}, {"usable", usable()},   {"gpus", gpus_}};
}

std::string to_string(const std::vector<std::vector<Spot>>& places, int first_rank) {
    std::string text;
    for (size_t r = 0; r < places.size(); ++r) {
        text += fmt::format("{}rank {}:", r ? "; " : "", first_rank + static_cast<int>(r));
        if (places[r].empty() || places[r].front().cpu < 0) {
            text += " anywhere";
            continue;
        }
        for (const Spot& spot : places[r]) text += fmt::format(" {}", spot.cpu);
        if (places[r].front().node >= 0) text += fmt::format(" (memory of node {})", places[r].front().node);
    }
    return text;
}

void stay_at(const Spot& spot) {
    if (spot.cpu < 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(spot.cpu), &one);
    sched_setaffinity(0, sizeof one, &one);  // of this thread
    if (spot.node < 0) return;
    const Machine& machine = this_machine.get();
    if (!machine.status.ok()) return;
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    hwloc_bitmap_only(set, static_cast<unsigned>(spot.node));
    hwloc_set_membind(machine.owned.topology, set, HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET);
    hwloc_bitmap_free(set);
}

}  // namespace ds
