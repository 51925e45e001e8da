// For programs that train through the ABI and compare numbers: counted checks, tensors as numbers, a folder that goes when its owner does.
#pragma once

#include <dsrt/dsrt.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace training {

using Numbers = std::vector<double>;

inline int passed = 0, failed = 0;
inline void check(bool good, const std::string& what) {
    if (good) ++passed;
    else ++failed, std::printf("FAILED %s\n", what.c_str());
}
inline void must(ds_status status, const std::string& what) { check(status >= 0, what + ": " + (status < 0 ? ds_last_error() : "")); }

// Takes the tensor; of none, nothing.
inline Numbers numbers(ds_tensor* t) {
    int32_t ndim = 0;
    const int64_t* shape = nullptr;
    if (!t) return {};
    must(ds_tensor_info(t, nullptr, &ndim, &shape), "info");
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= shape[i];
    Numbers out(static_cast<size_t>(n));
    must(ds_tensor_read(t, DS_F64, out.data(), out.size() * 8), "read");
    ds_tensor_destroy(t);
    return out;
}

// In norm, relative to b; infinite where sizes differ. `floor`: the least norm that counts.
inline double distance(const Numbers& a, const Numbers& b, double floor) {
    double sum = 0, norm = 0;
    if (a.size() != b.size()) return INFINITY;
    for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]), norm += b[i] * b[i];
    return std::sqrt(sum) / std::max(std::sqrt(norm), floor);
}

struct Folder {
    std::filesystem::path path;
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "dsrt-training-XXXXXX").string();
        path = ::mkdtemp(name.data());
    }
    Folder(const Folder&) = delete;
    ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace training
