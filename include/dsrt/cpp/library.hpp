// The library itself: versions, the keys of configs, scores, the log.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_CPP_LIBRARY_HPP
#define DSRT_CPP_LIBRARY_HPP

#include <dsrt/cpp/core.hpp>

namespace dsrt {

inline std::string version() { return ds_version(); }
inline uint32_t abi_version() { return ds_abi_version(); }
inline std::string build_info() { return ds_build_info(); }
// Scores of predictions ("spans", "squad", "bleu"), all of it JSON.
inline std::string score(const std::string& metric, const std::string& predictions_json, const std::string& references_json) {
    return detail::text_of([&](char** out, size_t*) {
        return ds_score(detail::c_text(metric), detail::c_text(predictions_json), detail::c_text(references_json), out);
    });
}

inline std::string config_describe() {
    return detail::text_of([](char** text, size_t*) { return ds_config_describe(text); });
}

// An empty function restores the default sink. What the function throws comes out of the call that logged, once that has done its work.
using LogFunction = std::function<void(LogLevel level, const char* component, const char* message)>;
inline void set_log(LogFunction sink, LogLevel level) {
    if (!sink) {
        detail::check(ds_set_log(nullptr, static_cast<int32_t>(level), nullptr, nullptr));
        return;
    }
    auto user = std::make_unique<LogFunction>(std::move(sink));
    const auto fn = [](int32_t l, const char* component, const char* message, void* u) {
        try {
            (*static_cast<LogFunction*>(u))(static_cast<LogLevel>(l), component, message);
        } catch (...) { detail::pending().log = std::current_exception(); }
    };
    detail::check(ds_set_log(fn, static_cast<int32_t>(level), user.get(), detail::release<LogFunction>));
    user.release();
}

}  // namespace dsrt

#endif  // DSRT_CPP_LIBRARY_HPP
