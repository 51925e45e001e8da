// What a host gives an engine besides the config.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "base/cancel.h"
#include "comm/transport.h"
#include "engine/host_graph.h"
#include "engine/params.h"

namespace ds {

struct HostOptions {
    std::shared_ptr<HostGraph> graph;
    std::shared_ptr<CancelFlag> cancel;
    std::optional<OptimizerCallbacks> optimizer;
    std::optional<int32_t> mpi;
    std::function<std::unique_ptr<Transport>()> communicator;  // a host's own; each engine gets an end of its own
};

}  // namespace ds
