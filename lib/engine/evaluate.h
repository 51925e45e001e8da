// What ds_evaluate does: the model over rows of data, and the scores that its task is known by.
#pragma once

#include "base/json.h"
#include "base/status.h"

namespace ds {

class Engine;

// data: what ds_data_open takes. options: rows of ds_evaluate's table.
Result<Json> evaluate(Engine& engine, Json data, const Json& options);

}  // namespace ds
