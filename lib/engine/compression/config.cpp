// compression_training: which modules are compressed how.
#include <regex>
#include <set>

#include "base/name_pattern.h"
#include "engine/compression/compression.h"
#include "passes/adapters.h"

namespace ds {
namespace {

const std::string kSection = "compression_training.";

Status refuse(const std::string& key, const std::string& what) { return fail(Code::E_CONFIG, "config: {}{}: {}", kSection, key, what); }
Status lack(const std::string& key, const std::string& what) { return fail(Code::E_UNSUPPORTED, "config: {}{}: {}", kSection, key, what); }

// One technique's groups, and the modules of each.
class Technique {
public:
    Technique(const Json& all, const std::map<std::string, bool>& modules, std::string name, const std::set<std::string>& tables = {})
        : name_(std::move(name)),
          section_(all.value(name_, Json::object())),
          shared_(section_.value("shared_parameters", Json::object())),
          modules_(modules),
          tables_(tables) {}

    bool enabled() const { return shared_.value("enabled", Json(false)) == true; }
    const Json& shared() const { return shared_; }
    int64_t offset(int64_t otherwise) const {
        return shared_.value("schedule_offset", Json()).is_number() ? shared_["schedule_offset"].get<int64_t>() : otherwise;
    }

    using Apply = std::function<Status(const std::string& path, const Json& params, const std::string& module,
                                       const std::vector<std::string>& related)>;
    Status each(const Apply& apply) const {
        const Json groups = section_.value("different_groups", Json::object());
        if (groups.empty()) return refuse(name_ + ".different_groups", "needed: NAME: {\"params\": {...}, \"modules\": [...]}");
        std::set<std::string> seen;
        for (const auto& [group, about] : groups.items()) {
            const std::string path = name_ + ".different_groups." + group;
            if (!about.is_object() || !about.value("params", Json()).is_object()) return refuse(path + ".params", "needed: an object");
            for (const auto& [key, value] : about.items())
                if (key != "params" && key != "modules" && key != "related_modules")
                    return refuse(path + "." + key, "unknown key; accepted are params, modules, related_modules");
            const Json patterns = about.value("modules", Json::array({"*"})), related = about.value("related_modules", Json());
            if (!patterns.is_array() || patterns.empty()) return refuse(path + ".modules", "must be a list of patterns");
            for (size_t i = 0; i < patterns.size(); ++i) {
                DS_TRY(const std::vector<std::string> found, matching(path + ".modules", patterns[i]));
                if (found.empty())
                    return refuse(path + ".modules",
                                  fmt::format("no linear module's{} name has {}; they are like {}",
                                              tables_.empty() ? "" : " or embedding's", patterns[i].dump(), modules_.begin()->first));
                std::vector<std::vector<std::string>> others;
                if (related.is_array() && i < related.size() && related[i].is_array())
                    for (const Json& pattern : related[i]) {
                        DS_TRY(auto list, matching(path + ".related_modules", pattern));
                        if (list.size() != found.size())
                            return refuse(path + ".related_modules",
                                          fmt::format("{} names {} modules, and {} names {}: one for each is needed", pattern.dump(),
                                                      list.size(), patterns[i].dump(), found.size()));
                        others.push_back(std::move(list));
                    }
                for (size_t k = 0; k < found.size(); ++k) {
                    if (!seen.insert(found[k]).second) return refuse(path + ".modules", found[k] + " is in another group, too");
                    std::vector<std::string> mine;
                    for (const auto& list : others) mine.push_back(list[k]);
                    DS_CHECK(apply(path + ".params", about["params"], found[k], mine));
                }
            }
        }
        return ok();
    }

private:
    // Python's re.search over whole names; "*" is all linear modules. In the order of their numbers: related lists go side by side.
    Result<std::vector<std::string>> matching(const std::string& place, const Json& pattern) const {
        if (!pattern.is_string()) return refuse(place, fmt::format("a pattern must be a string, is {}", pattern.dump()));
        const auto wanted = NamePattern::make(pattern == "*" ? "" : pattern.get<std::string>());
        if (!wanted.ok()) return refuse(place, wanted.status().message());
        std::vector<std::string> found;
        for (const auto& [module, out_first] : modules_)
            if (wanted->found_in(module)) found.push_back(module);
        if (pattern != "*")
            std::copy_if(tables_.begin(), tables_.end(), std::back_inserter(found),
                         [&](const auto& name) { return wanted->found_in(name); });
        return found;
    }

    const std::string name_;
    const Json section_, shared_;
    const std::map<std::string, bool>& modules_;
    const std::set<std::string> tables_;
};

Result<int64_t> whole(const std::string& path, const Json& params, const char* key, int64_t least, int64_t most,
                      std::optional<int64_t> otherwise = {}) {
    const Json value = params.value(key, Json());
    if (value.is_null() && otherwise) return *otherwise;
    if (!value.is_number_integer() || value < least || value > most)
        return refuse(path + "." + key,
                      fmt::format("must be an integer from {} to {}, is {}", least, most, value.is_null() ? "absent" : value.dump()));
    return value.get<int64_t>();
}

Result<PruneRule> prune_rule(const std::string& name, const Technique& t, const std::string& path, const Json& params,
                             std::vector<std::string> related) {
    PruneRule rule;
    const Json keep = params.value("dense_ratio", Json());
    if (!keep.is_number() || keep <= 0 || keep > 1)
        return refuse(path + ".dense_ratio",
                      fmt::format("must be a number above 0 and at most 1, is {}", keep.is_null() ? "absent" : keep.dump()));
    rule.keep = keep.get<double>();
    const std::string method = t.shared().value("method", name == "head_pruning" ? "topk" : "l1");
    if (method == "snip_momentum") return lack(name + ".shared_parameters.method", "snip_momentum is not built; there are l1 and topk");
    rule.learned = method == "topk";
    rule.offset = t.offset(1000);
    rule.related = std::move(related);
    return rule;
}

// "2:4": two of each four neighbours. DeepSpeed's own patterns ("4x1") belong to snip_momentum.
Status read_pattern(const Json& shared, PruneRule& rule) {
    const Json pattern = shared.value("block_pattern", Json("4x1"));
    if (!pattern.is_string() || pattern == "4x1") return ok();
    const std::string text = pattern.get<std::string>();
    std::smatch parts;
    if (!std::regex_match(text, parts, std::regex("([0-9]{1,3}):([0-9]{1,3})")))
        return lack("sparse_pruning.shared_parameters.block_pattern",
                    fmt::format("{} is not built; there is N:M, as \"2:4\"", pattern.dump()));
    rule.n = std::stoll(parts[1]), rule.m = std::stoll(parts[2]);
    if (rule.m < 1 || rule.n > rule.m)
        return refuse("sparse_pruning.shared_parameters.block_pattern",
                      fmt::format("{}: N of M neighbours must be at most M", pattern.dump()));
    return ok();
}

// A graph's modules, and what was read about them.
struct Reader {
    const Json& given;
    const Graph& graph;
    const std::map<std::string, bool> modules = linear_modules(graph);
    const std::set<std::string> tables = embedding_modules(graph);
    CompressionSpec spec = {};

    ModuleCompression& at(const std::string& module) {
        ModuleCompression& how = spec[module];
        how.table = !modules.contains(module);
        how.out_first = how.table || modules.at(module);
        return how;
    }
    const Shape& shape(const std::string& module) const { return graph.type(graph.find(module + ".weight")).shape; }
    int64_t inputs(const std::string& module) const { return shape(module)[modules.at(module) ? 1 : 0]; }

    Status weights() {
        const Technique quantize(given, modules, "weight_quantization", tables);
        if (!quantize.enabled()) return ok();
        return quantize.each([&](const std::string& path, const Json& params, const std::string& module, const auto&) -> Status {
            WeightBits w;
            const Json& shared = quantize.shared();
            w.offset = quantize.offset(0);
            w.asymmetric = shared.value("quantization_type", "symmetric") == "asymmetric";
            w.in_forward = shared.value("quantize_weight_in_forward", false);
            w.groups = w.in_forward && tables.contains(module) ? shape(module)[0] : shared.value("quantize_groups", int64_t{1});
            DS_TRY(w.start, whole(path, params, "start_bits", 1, 16));
            DS_TRY(w.target, whole(path, params, "target_bits", 1, 16));
            DS_TRY(w.period, whole(path, params, "quantization_period", 0, INT32_MAX, 1));
            if (w.target > w.start)
                return refuse(path + ".target_bits", fmt::format("must be at most start_bits, which is {}; is {}", w.start, w.target));
            if (w.asymmetric && w.target < 3) return refuse(path + ".target_bits", fmt::format("{} bits are symmetric only", w.target));
            if (const int64_t n = elements(shape(module)); n % w.groups)
                return refuse("weight_quantization.shared_parameters.quantize_groups",
                              fmt::format("{} does not divide the {} elements of {}", w.groups, n, module));
            at(module).weight = w;
            return ok();
        });
    }

    Status activations() {
        const Technique quantize(given, modules, "activation_quantization");
        if (!quantize.enabled()) return ok();
        return quantize.each([&](const std::string& path, const Json& params, const std::string& module, const auto&) -> Status {
            DS_TRY(const int64_t bits, whole(path, params, "bits", 4, 8));
            if (bits != 4 && bits != 8) return refuse(path + ".bits", fmt::format("must be 4 or 8, is {}", bits));
            at(module).activation =
                ActivationBits{bits, quantize.offset(1000), quantize.shared().value("quantization_type", "symmetric") == "asymmetric",
                               quantize.shared().value("range_calibration", "dynamic") == "static"};
            return ok();
        });
    }

    Status pruning(const char* name, std::optional<PruneRule> ModuleCompression::*member) {
        const Technique technique(given, modules, name);
        if (!technique.enabled()) return ok();
        return technique.each(
            [&](const std::string& path, const Json& params, const std::string& module, const std::vector<std::string>& related) -> Status {
                DS_TRY(PruneRule rule, prune_rule(name, technique, path, params, related));
                if (member == &ModuleCompression::sparse) {
                    DS_CHECK(read_pattern(technique.shared(), rule));
                    if (const int64_t row = inputs(module); rule.m && row % rule.m)
                        return refuse("sparse_pruning.shared_parameters.block_pattern",
                                      fmt::format("outputs of {} have {} inputs, not a multiple of {}", module, row, rule.m));
                }
                if (member == &ModuleCompression::heads) {
                    DS_TRY(rule.heads, whole("head_pruning.shared_parameters", technique.shared(), "num_heads", 1, INT32_MAX));
                    if (inputs(module) % rule.heads)
                        return refuse("head_pruning.shared_parameters.num_heads",
                                      fmt::format("{} does not divide the {} inputs of {}", rule.heads, inputs(module), module));
                }
                at(module).*member = std::move(rule);
                return ok();
            });
    }
};

}  // namespace

Result<CompressionSpec> read_compression(const Json& section, const Graph& graph) {
    Reader read{section, graph};
    if (read.modules.empty()) return fail(Code::E_UNSUPPORTED, "config: compression_training: this model has no linear modules");
    DS_CHECK(read.weights());
    DS_CHECK(read.activations());
    for (const auto& [name, member] : {std::pair{"sparse_pruning", &ModuleCompression::sparse},
                                       {"row_pruning", &ModuleCompression::rows},
                                       {"head_pruning", &ModuleCompression::heads}})
        DS_CHECK(read.pruning(name, member));
    return std::move(read.spec);
}

}  // namespace ds
