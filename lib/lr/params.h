// Reads a schedule's parameters: each name is asked for once with its default and bounds, finish() reports the first fault or unknown name.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace ds {

struct Bounds {
    double least;
    bool or_equal;      // least itself is fine
    const char* words;  // "above 0"
};
inline constexpr Bounds kAboveZero{0, false, "above 0"};
inline constexpr Bounds kFromZero{0, true, "of at least 0"};
inline constexpr Bounds kFromOne{1, true, "of at least 1"};

class Params {
public:
    Params(const Json& given, std::string type) : given_(given), type_(std::move(type)) {}

    double number(const char* name, std::optional<double> fallback, std::optional<Bounds> bounds = {});  // no fallback = required
    int64_t integer(const char* name, std::optional<int64_t> fallback, std::optional<Bounds> bounds = {});
    bool flag(const char* name, bool fallback);
    std::string text(const char* name, const char* fallback);
    bool has(const char* name);  // given and not null; counts as asked for
    // A number for every group, or a list of one a group.
    std::vector<double> per_group(const char* name, std::optional<std::vector<double>> fallback, size_t groups);

    void reject(const char* name, const std::string& accepted);  // "must be ACCEPTED, is VALUE"
    Status finish();

private:
    const Json* find(const char* name);
    void fault(std::string message);

    const Json& given_;
    std::string type_;
    std::vector<std::string> known_;
    std::string fault_;
};

}  // namespace ds
