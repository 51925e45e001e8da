// What open_data puts together, for who wants samples and their records themselves.
#pragma once

#include "data/loader.h"

namespace ds {

struct OpenedSamples {
    Samples samples;
    LoaderRules rules;
    std::string task;  // a name of tasks.def
};
Result<OpenedSamples> open_samples(const Json& options, const DataContext& context);

}  // namespace ds
