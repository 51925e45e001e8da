// A plug-in for tests/unit/plugin.cpp.
#include "base/plugin.h"

struct SampleTable {
    ds::PluginTable base;
    int (*twice)(int);
};

extern "C" __attribute__((visibility("default"))) const ds::PluginTable* dsrt_plugin_v1() {
    static const SampleTable table{{sizeof(SampleTable), "sample", "a sample"}, [](int x) { return 2 * x; }};
    return &table.base;
}
