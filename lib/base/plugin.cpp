#include "base/plugin.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>

namespace ds {
namespace {

namespace fs = std::filesystem;

// The folder of libdsrt, or of the program that it is part of.
fs::path own_folder() {
    Dl_info self{};
    if (dladdr(reinterpret_cast<const void*>(&find_plugin), &self) == 0 || !self.dli_fname) return {};
    std::error_code error;
    const fs::path file = fs::canonical(self.dli_fname, error);
    return error ? fs::path() : file.parent_path();
}

Result<const PluginTable*> open_plugin(const std::string& path, std::string_view name) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char* why = dlerror();
        return fail(Code::E_UNSUPPORTED, "{}: cannot be loaded: {}", path, why ? why : "no reason is given");
    }
    const auto entry = reinterpret_cast<PluginEntry>(dlsym(library, DS_PLUGIN_ENTRY));
    if (!entry)
        return fail(Code::E_UNSUPPORTED, "{}: has no function {}; it was built for another version of libdsrt", path, DS_PLUGIN_ENTRY);
    const PluginTable* table = entry();
    if (!table || table->struct_size < sizeof(PluginTable) || !table->name || table->name != name)
        return fail(Code::E_UNSUPPORTED, "{}: its table says that it is {}, not {}", path, table && table->name ? table->name : "nothing",
                    name);
    return table;
}

}  // namespace

Result<std::string> find_plugin(std::string_view name) {
    const std::string file = fmt::format("libdsrt_{}.so", name);
    std::string looked;
    std::error_code error;
    if (const char* folder = std::getenv("DSRT_BACKEND_PATH"); folder && *folder) {
        if (!fs::path(folder).is_absolute())
            return fail(Code::E_INVALID_ARGUMENT, "DSRT_BACKEND_PATH: {}: must be an absolute path", folder);
        if (fs::exists(fs::path(folder) / file, error)) return (fs::path(folder) / file).string();
        looked = fmt::format("{} (DSRT_BACKEND_PATH) and ", folder);
    }
    const fs::path beside = own_folder();
    if (!beside.empty() && fs::exists(beside / file, error)) return (beside / file).string();
    return fail(Code::E_NOT_FOUND, "{} is not in {}{}; install the plug-in there, or name its folder in DSRT_BACKEND_PATH", file, looked,
                beside.string());
}

Result<const PluginTable*> load_plugin(std::string_view name, size_t struct_size) {
    static std::mutex& mutex = *new std::mutex;
    static auto& loaded = *new std::map<std::string, const PluginTable*, std::less<>>;
    std::lock_guard lock(mutex);
    auto known = loaded.find(name);
    if (known == loaded.end()) {
        DS_TRY(const std::string path, find_plugin(name));
        DS_TRY(const PluginTable* table, open_plugin(path, name));
        known = loaded.emplace(name, table).first;
    }
    if (known->second->struct_size < struct_size)
        return fail(Code::E_UNSUPPORTED, "libdsrt_{}.so: its table has {} bytes where this libdsrt needs {}: it is older than libdsrt",
                    name, known->second->struct_size, struct_size);
    return known->second;
}

}  // namespace ds
