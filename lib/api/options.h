// What stands behind ds_options and ds_graph.
#pragma once

#include "api/objects.h"
#include "engine/engine.h"

namespace ds::api {

struct GraphObject {
    std::shared_ptr<HostGraph> graph;
};

struct OptionsObject {
    HostOptions parts;
};

// The parts, or none for NULL.
Result<HostOptions> parts_of(const ds_options* options);

}  // namespace ds::api
