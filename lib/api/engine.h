// What stands behind ds_engine and ds_data.
#pragma once

#include "api/objects.h"
#include "engine/engine.h"

namespace ds::api {

struct EngineObject {
    std::shared_ptr<Engine> engine;
};

struct DataObject {
    std::shared_ptr<DataSource> source;
    bool bound = false;          // opened with an engine
    std::weak_ptr<Slot> engine;  // of that engine
    // DS_E_STATE once the engine it was opened with is gone.
    Status check_alive() const;
};

Result<Batch> batch_of(const ds_batch* b);  // its contents as of now

}  // namespace ds::api
