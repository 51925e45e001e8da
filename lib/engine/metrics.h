// Numbers that an engine publishes under names. Any thread may read them.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <mutex>
#include <string>

#include "base/status.h"

namespace ds {

class Metrics {
public:
    void put(const std::string& name, double value) {
        std::lock_guard lock(mutex_);
        values_[name] = value;
    }
    // A name that is there from the start, whatever happens later.
    void declare(const std::string& name) {
        std::lock_guard lock(mutex_);
        values_.try_emplace(name, 0.0);
    }
    Result<double> get(std::string_view name) const {
        std::lock_guard lock(mutex_);
        if (const auto found = values_.find(name); found != values_.end()) return found->second;
        std::string known;
        for (const auto& [key, value] : values_) known += (known.empty() ? "" : ", ") + key;
        return fail(Code::E_NOT_FOUND, "ds_metric: there is no metric {}; there are {}", name, known);
    }

private:
    mutable std::mutex mutex_;
    std::map<std::string, double, std::less<>> values_;
};

}  // namespace ds
