// Counted checks, for programs whose cases are data or processes: a failure is printed where it is found, and result() ends main.
#pragma once

#include <dsrt/dsrt.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace checks {

inline int passed = 0, failed = 0;

inline void check(bool good, const std::string& what) {
    if (good) ++passed;
    else ++failed, std::printf("FAILED %s\n", what.c_str());
}

// What main returns.
inline int result() {
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}

// What the rest can't do without.
inline void must(ds_status status, const std::string& what) {
    if (status >= 0) return;
    check(false, what + ": " + ds_status_name(status) + ": " + ds_last_error());
    std::exit(result());
}

}  // namespace checks
