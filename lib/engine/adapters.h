// The adapters of an engine: what its config says about them, PEFT's files in and out, and those that wait while another is active.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/config.h"
#include "passes/adapters.h"

namespace ds {

// One adapter as a folder describes it (adapter_config.json), or as the config does where it is fresh.
struct AdapterInfo {
    std::string folder;  // empty: fresh
    Json settings;       // adapter_config.json's object
    int64_t r = 8;
    double scale = 1;
};

// What an adapter that is not active had when it last was.
struct WaitingAdapter {
    std::map<std::string, std::vector<std::vector<float>>> values;  // by parameter: the weight, then the optimizer's state
    int64_t updates = 0;
};

class Adapters {
public:
    // Reads the folders' descriptions. model: the graph of the whole model, before adapters.
    static Result<Adapters> open(const LoraConfig& config, const Graph& model, std::string base_model);

    const AdapterSpec& spec() const { return spec_; }
    const std::map<std::string, AdapterInfo>& all() const { return all_; }
    const std::string& active() const { return active_; }
    const std::string& first() const { return all_.begin()->first; }                              // by name
    bool input_first(const std::string& module) const { return input_first_.count(module) > 0; }  // its weight lies [in, out]
    Status check(const std::string& name) const;                                                  // whether there is one of this name

    // The tensors of an adapter's file as this engine's parameters hold them: ranks filled up with zeros, the scale made the engine's own.
    Result<std::map<std::string, HostTensor>> read(const std::string& name) const;
    // A parameter's value as the active adapter's file holds it.
    HostTensor for_file(const std::string& parameter, const HostTensor& value) const;
    std::string file_name(const std::string& parameter) const;
    Json settings_for_file() const;  // of the active one

    std::map<std::string, WaitingAdapter> waiting;
    int64_t updates = 0;  // of the active one
    Json state() const;   // for a checkpoint: which is active, and the updates of each that was
    void activate(const std::string& name) { active_ = name; }

private:
    AdapterSpec spec_;
    std::map<std::string, AdapterInfo> all_;
    std::string active_;
    std::set<std::string> input_first_;
};

}  // namespace ds
