// Codes, versions, what was built and found, memory handed out.
#include "dsrt/status.h"

#define PCRE2_CODE_UNIT_WIDTH 8

#include <hwloc.h>
#include <pcre2.h>
#include <utf8proc.h>
#include <xxhash.h>

#include <cstdlib>
#include <thread>

#include "api/guard.h"
#include "base/json.h"
#include "base/plugin.h"
#include "kernels/cpu/level.h"

using namespace ds;
using namespace ds::api;

#define DS_CODE(name, value, text) static_assert(DS_##name == value);
#include "base/errors.def"
#undef DS_CODE

namespace {

constexpr const char* kVersion = "0.1.0";

Json plug_in(const char* name) {
    const auto found = find_plugin(name);
    return found.ok() ? Json{{"found", true}, {"path", with_valid_utf8(*found)}} : Json{{"found", false}};
}

std::string build_info() {
    const unsigned hwloc = hwloc_get_api_version();
    char pcre2[64] = "";
    if (pcre2_config_8(PCRE2_CONFIG_VERSION, nullptr) <= int(sizeof(pcre2))) pcre2_config_8(PCRE2_CONFIG_VERSION, pcre2);
    Json sanitizers = Json::array();
#ifdef __SANITIZE_ADDRESS__
    sanitizers.push_back("address");
#endif
#ifdef __SANITIZE_THREAD__
    sanitizers.push_back("thread");
#endif
#ifdef NDEBUG
    const bool asserts = false;
#else
    const bool asserts = true;
#endif
    OrderedJson info;
    info["version"] = kVersion;
    info["abi"] = fmt::format("{}.{}", DS_ABI_MAJOR, DS_ABI_MINOR);
    info["compiler"] = "GCC " __VERSION__;
    info["asserts"] = asserts;
    info["sanitizers"] = sanitizers;
    info["cpu"] = {{"levels", std::vector<std::string>(cpu::level_names().begin(), cpu::level_names().end())},
                   {"in_use", cpu::name_of(cpu::level())},
                   {"hardware_threads", std::thread::hardware_concurrency()}};
    info["libraries"] = {{"hwloc", fmt::format("{}.{}.{}", hwloc >> 16, (hwloc >> 8) & 255, hwloc & 255)},
                         {"utf8proc", utf8proc_version()},
                         {"pcre2", pcre2},
                         {"xxhash", fmt::format("{}", XXH_versionNumber())}};
    info["optional"] = {{"cuda", plug_in("cuda")}, {"mpi", plug_in("mpi")}, {"gloo", plug_in("gloo")}};
    info["devices"] = {{{"type", "cpu"}, {"index", 0}}};
    return info.dump();
}

}  // namespace

const char* ds_status_name(ds_status s) { return code_name(static_cast<Code>(s)); }
const char* ds_version(void) { return kVersion; }
uint32_t ds_abi_version(void) { return DS_ABI_VERSION; }
void ds_free(void* p) { std::free(p); }

const char* ds_build_info(void) {
    const char* text = "{}";
    guard([&]() -> Status {
        static const std::string& info = *new std::string(build_info());  // never freed: the host keeps the pointer
        text = info.c_str();
        return ok();
    });
    return text;
}
