// lib/base/plugin: where plug-ins are looked for, and which are refused.
#include "base/plugin.h"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

using namespace ds;
namespace fs = std::filesystem;

namespace {

struct SampleTable {
    PluginTable base;
    int (*twice)(int);
};
struct LargerTable {
    SampleTable sample;
    void* more[4];
};

// A folder that DSRT_BACKEND_PATH names for as long as this lives.
struct Folder {
    const fs::path path = fs::temp_directory_path() / fmt::format("dsrt_plugin_{}", getpid());
    Folder() {
        fs::create_directories(path);
        setenv("DSRT_BACKEND_PATH", path.c_str(), 1);
    }
    ~Folder() {
        unsetenv("DSRT_BACKEND_PATH");
        fs::remove_all(path);
    }
};

bool says(const Status& status, std::string_view words) { return status.message().find(words) != std::string::npos; }

}  // namespace

TEST_CASE("plugin/one_that_is_nowhere_is_not_found_and_the_places_are_named") {
    const Folder folder;
    const auto none = load_plugin<SampleTable>("absent");
    REQUIRE(!none.ok());
    CHECK(none.status().code() == Code::E_NOT_FOUND);
    CHECK(says(none.status(), "libdsrt_absent.so"));
    CHECK(says(none.status(), folder.path.string()));
}

TEST_CASE("plugin/the_working_directory_is_never_looked_in") {
    const Folder folder;
    std::ofstream(folder.path / "libdsrt_here.so") << "x";
    unsetenv("DSRT_BACKEND_PATH");
    const fs::path before = fs::current_path();
    fs::current_path(folder.path);
    CHECK(find_plugin("here").status().code() == Code::E_NOT_FOUND);
    setenv("DSRT_BACKEND_PATH", ".", 1);
    const auto relative = find_plugin("here");
    CHECK(says(relative.status(), "must be an absolute path"));
    fs::current_path(before);
}

TEST_CASE("plugin/files_that_are_no_plugins_are_refused") {
    const Folder folder;
    std::ofstream(folder.path / "libdsrt_text.so") << "no library";
    const auto text = load_plugin<SampleTable>("text");
    REQUIRE(!text.ok());
    CHECK(text.status().code() == Code::E_UNSUPPORTED);
    CHECK(says(text.status(), "cannot be loaded"));
    fs::copy_file(DSRT_SAMPLE_PLUGIN, folder.path / "libdsrt_other.so");
    const auto other = load_plugin<SampleTable>("other");
    REQUIRE(!other.ok());
    CHECK(says(other.status(), "says that it is sample, not other"));
}

TEST_CASE("plugin/a_good_one_serves_and_one_that_is_too_old_is_refused") {
    const Folder folder;
    fs::copy_file(DSRT_SAMPLE_PLUGIN, folder.path / "libdsrt_sample.so");
    const auto sample = load_plugin<SampleTable>("sample");
    REQUIRE(sample.ok());
    CHECK((*sample)->twice(21) == 42);
    const auto larger = load_plugin<LargerTable>("sample");
    REQUIRE(!larger.ok());
    CHECK(says(larger.status(), "older than libdsrt"));
}
