// For programs that train through the ABI and compare numbers: tensors as numbers, an engine, a folder that goes when its owner does.
#pragma once

#include <dsrt/dsrt.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/checks.h"

namespace training {

using Numbers = std::vector<double>;

using checks::check, checks::must;

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

// What the engine has a name for; trained: those that an update changes.
inline std::vector<std::string> names(const ds_engine* e, bool trained = false) {
    std::vector<std::string> list;
    size_t n = 0;
    must(ds_param_count(e, &n), "count");
    for (size_t i = 0; i < n; ++i) {
        const char* name = nullptr;
        int32_t trainable = 0;
        must(ds_param_name(e, i, &name), "name");
        must(ds_param_info(e, name, nullptr, nullptr, &trainable), name);
        if (trainable || !trained) list.emplace_back(name);
    }
    return list;
}
inline Numbers param(ds_engine* e, const std::string& name, int what = DS_WEIGHT) {
    ds_tensor* t = nullptr;
    must(ds_param_get(e, name.c_str(), what, &t), name);
    return numbers(t);
}

struct Engine {
    ds_engine* e = nullptr;
    explicit Engine(const ds::Json& config) { must(ds_engine_create(config.dump().c_str(), nullptr, &e), config.dump()); }
    Engine(const Engine&) = delete;
    ~Engine() { ds_engine_destroy(e); }

    std::vector<std::string> names(bool trained = false) const { return training::names(e, trained); }
    Numbers param(const std::string& name, int what = DS_WEIGHT) const { return training::param(e, name, what); }
    std::vector<int64_t> shape(const std::string& name) const {
        int32_t rank = 0;
        const int64_t* dims = nullptr;
        must(ds_param_info(e, name.c_str(), &rank, &dims, nullptr), name);
        return {dims, dims + rank};
    }
    void set(const std::string& name, const Numbers& values) const {
        const auto dims = shape(name);
        ds_tensor* t = nullptr;
        must(ds_tensor_create(DS_F64, static_cast<int32_t>(dims.size()), dims.data(), values.data(), values.size() * 8, &t), name);
        must(ds_param_set(e, name.c_str(), DS_WEIGHT, t), name);
        ds_tensor_destroy(t);
    }
    Numbers output(const char* name) const {
        ds_tensor* t = nullptr;
        must(ds_output(e, name, &t), name);
        return numbers(t);
    }
    double metric(const char* name) const {
        double value = NAN;
        must(ds_metric(e, name, &value), name);
        return value;
    }
    double eval(const ds_batch* b) const {
        float loss = 0;
        must(ds_eval(e, b, &loss), "eval");
        return loss;
    }
    double forward(const ds_batch* b) const {
        float loss = 0;
        must(ds_forward(e, b, &loss), "forward");
        return loss;
    }
    double step(const ds_batch* b) const {
        const double loss = forward(b);
        must(ds_backward(e), "backward");
        must(ds_step(e), "step");
        return loss;
    }
};

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
