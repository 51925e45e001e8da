// The flag behind a ds_cancel.
#pragma once

#include <memory>

#include "base/cancel.h"
#include "base/status.h"
#include "dsrt/options.h"

namespace ds::api {

// The flag, for an engine to look at; it outlives the handle.
Result<std::shared_ptr<CancelFlag>> flag_of(ds_cancel* c);

}  // namespace ds::api
