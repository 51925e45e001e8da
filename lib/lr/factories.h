// The factories that lr.def lists. A factory reads all its parameters, and may build from faulty ones: the caller then drops what it built.
#pragma once

#include <memory>

#include "lr/params.h"
#include "lr/schedule.h"

namespace ds {

using ScheduleFactory = std::unique_ptr<Schedule> (*)(Params&, ScheduleGroups);
#define DS_SCHEDULE(type, factory) std::unique_ptr<Schedule> factory(Params&, ScheduleGroups);
#include "lr/lr.def"
#undef DS_SCHEDULE

}  // namespace ds
