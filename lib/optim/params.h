// Reads optimizer.params: each rule asks for the keys it has, each with default and bounds; what nobody asked for is an error.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace ds {

class OptimizerParams {
public:
    explicit OptimizerParams(const Json& params);

    double number(const char* key, double otherwise, double least = 0,
                  double below = std::numeric_limits<double>::infinity());  // in [least, below)
    std::pair<double, double> betas(double first, double second);           // each in [0, 1)
    bool flag(const char* key, bool otherwise);
    std::string choice(const char* key, const char* otherwise, const std::vector<std::string>& accepted);
    void only(const char* key, bool accepted, const char* why);  // a switch that has one position here
    const Json* raw(const char* key);                            // null where absent or "auto"
    bool has(const char* key) const;
    void complain(const char* key, const std::string& what);  // the first complaint is kept
    Status status();                                          // the first complaint, or an unknown key
    const Json& effective() const { return effective_; }      // what was asked for, as given or by default

private:
    const Json& params_;
    std::vector<std::string> asked_;
    Json effective_ = Json::object();
    Status first_;
};

// optimizer.params with the defaults of a type that make_optimizer accepts.
Result<Json> effective_params(std::string_view type, const Json& params);

}  // namespace ds
