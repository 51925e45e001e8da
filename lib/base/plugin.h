// Plug-ins: optional parts in libraries of their own (libdsrt_gloo.so, libdsrt_mpi.so, libdsrt_cuda.so), loaded when they are first asked
// for.
//
// A plug-in exports one C function, `dsrt_plugin_v1`, which answers a table that begins with a PluginTable; what follows is between the
// plug-in and the part of libdsrt that uses it. An incompatible table gets a function of another name. A plug-in stays loaded: its threads
// may outlive any engine.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/status.h"

namespace ds {

struct PluginTable {
    size_t struct_size;    // of the whole table, as the plug-in knows it
    const char* name;      // "gloo": the library's name between libdsrt_ and .so
    const char* contents;  // what it wraps and which version, for ds_build_info and the log
};

#define DS_PLUGIN_ENTRY "dsrt_plugin_v1"
using PluginEntry = const PluginTable* (*)();

// Where libdsrt_NAME.so lies: in the folder that DSRT_BACKEND_PATH names (which must be absolute), else beside libdsrt; never the working
// directory. E_NOT_FOUND names the places. Loads nothing.
Result<std::string> find_plugin(std::string_view name);

// Loads it, once a process. The table has at least `struct_size` bytes. E_NOT_FOUND, or E_UNSUPPORTED with why it could not be loaded.
Result<const PluginTable*> load_plugin(std::string_view name, size_t struct_size);

// The same for a table type, whose first member is a PluginTable.
template <class Table>
Result<const Table*> load_plugin(std::string_view name) {
    DS_TRY(const PluginTable* table, load_plugin(name, sizeof(Table)));
    return reinterpret_cast<const Table*>(table);
}

}  // namespace ds
