// ds_config_describe: the reference of the configuration.
#include "config/config.h"

#include "api/guard.h"
#include "dsrt/engine.h"

using namespace ds;
using namespace ds::api;

ds_status ds_config_describe(char** text) {
    return guard([&]() -> Status {
        DS_NOT_NULL(text);
        *text = nullptr;
        DS_TRY(*text, handed_out(describe_config()));
        return ok();
    });
}
