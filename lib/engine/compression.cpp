// compression_training: which modules are compressed how, masks that are made from first weights, and folders without what is masked.
#include <algorithm>
#include <regex>

#include "base/log.h"
#include "engine/engine.h"
#include "kernels/compress.h"
#include "passes/adapters.h"

namespace ds {
namespace {

const std::string kSection = "compression_training.";

Status refuse(const std::string& key, const std::string& what) { return fail(Code::E_CONFIG, "config: {}{}: {}", kSection, key, what); }
Status lack(const std::string& key, const std::string& what) { return fail(Code::E_UNSUPPORTED, "config: {}{}: {}", kSection, key, what); }

// One technique's groups, and the modules of each.
class Technique {
public:
    Technique(const Json& all, const std::map<std::string, bool>& modules, std::string name)
        : name_(std::move(name)), section_(all.value(name_, Json::object())), shared_(section_.value("shared_parameters", Json::object())), modules_(modules) {}

    bool enabled() const { return shared_.value("enabled", Json(false)) == true; }
    const Json& shared() const { return shared_; }
    int64_t offset(int64_t otherwise) const { return shared_.value("schedule_offset", Json()).is_number() ? shared_["schedule_offset"].get<int64_t>() : otherwise; }

    using Apply = std::function<Status(const std::string& path, const Json& params, const std::string& module, const std::vector<std::string>& related)>;
    Status each(const Apply& apply) const {
        const Json groups = section_.value("different_groups", Json::object());
        if (groups.empty()) return refuse(name_ + ".different_groups", "needed: NAME: {\"params\": {...}, \"modules\": [...]}");
        std::set<std::string> seen;
        for (const auto& [group, about] : groups.items()) {
            const std::string path = name_ + ".different_groups." + group;
            if (!about.is_object() || !about.value("params", Json()).is_object()) return refuse(path + ".params", "needed: an object");
            for (const auto& [key, value] : about.items())
                if (key != "params" && key != "modules" && key != "related_modules") return refuse(path + "." + key, "unknown key; accepted are params, modules, related_modules");
            const Json patterns = about.value("modules", Json::array({"*"})), related = about.value("related_modules", Json());
            if (!patterns.is_array() || patterns.empty()) return refuse(path + ".modules", "must be a list of patterns");
            for (size_t i = 0; i < patterns.size(); ++i) {
                DS_TRY(const std::vector<std::string> found, matching(path + ".modules", patterns[i]));
                if (found.empty()) return refuse(path + ".modules", fmt::format("no linear module's name has {}; they are like {}", patterns[i].dump(), modules_.begin()->first));
                std::vector<std::vector<std::string>> others;
                if (related.is_array() && i < related.size() && related[i].is_array())
                    for (const Json& pattern : related[i]) {
                        DS_TRY(auto list, matching(path + ".related_modules", pattern));
                        if (list.size() != found.size()) return refuse(path + ".related_modules", fmt::format("{} names {} modules, and {} names {}: one for each is needed", pattern.dump(), list.size(), patterns[i].dump(), found.size()));
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
    // Python's re.search over whole names; "*" is all. In the order of their numbers: related lists go side by side.
    Result<std::vector<std::string>> matching(const std::string& place, const Json& pattern) const {
        if (!pattern.is_string()) return refuse(place, fmt::format("a pattern must be a string, is {}", pattern.dump()));
        std::vector<std::string> found;
        try {
            const std::regex regex(pattern == "*" ? "" : pattern.get<std::string>());
            for (const auto& [module, out_first] : modules_)
                if (std::regex_search(module, regex)) found.push_back(module);
        } catch (const std::regex_error& error) {
            return refuse(place, fmt::format("{} is not a regular expression: {}", pattern.dump(), error.what()));
        }
        return found;
    }

    const std::string name_;
    const Json section_, shared_;
    const std::map<std::string, bool>& modules_;
};

Result<int64_t> whole(const std::string& path, const Json& params, const char* key, int64_t least, int64_t most, std::optional<int64_t> otherwise = {}) {
    const Json value = params.value(key, Json());
    if (value.is_null() && otherwise) return *otherwise;
    if (!value.is_number_integer() || value < least || value > most) return refuse(path + "." + key, fmt::format("must be an integer from {} to {}, is {}", least, most, value.is_null() ? "absent" : value.dump()));
    return value.get<int64_t>();
}

Result<PruneRule> prune_rule(const std::string& name, const Technique& t, const std::string& path, const Json& params, std::vector<std::string> related) {
    PruneRule rule;
    const Json keep = params.value("dense_ratio", Json());
    if (!keep.is_number() || keep <= 0 || keep > 1) return refuse(path + ".dense_ratio", fmt::format("must be a number above 0 and at most 1, is {}", keep.is_null() ? "absent" : keep.dump()));
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
    if (!std::regex_match(text, parts, std::regex("([0-9]{1,3}):([0-9]{1,3})"))) return lack("sparse_pruning.shared_parameters.block_pattern", fmt::format("{} is not built; there is N:M, as \"2:4\"", pattern.dump()));
    rule.n = std::stoll(parts[1]), rule.m = std::stoll(parts[2]);
    if (rule.m < 1 || rule.n > rule.m) return refuse("sparse_pruning.shared_parameters.block_pattern", fmt::format("{}: N of M neighbours must be at most M", pattern.dump()));
    return ok();
}

// Elements of a weight whose output (or input) the mask drops go; mask has an entry a dimension's unit.
HostTensor without(const HostTensor& weight, int dim, const std::vector<float>& mask, int64_t unit) {
    std::vector<HostTensor> parts;
    for (size_t i = 0; i < mask.size(); ++i)
        if (mask[i] != 0) parts.push_back(slice(weight, dim, static_cast<int64_t>(i) * unit, (static_cast<int64_t>(i) + 1) * unit));
    return concat(parts, dim);
}

}  // namespace

Status Engine::make_compression(const Graph& graph) {
    const Json& given = config_.compression;
    if (given.is_null()) return ok();
    if (!model_) return fail(Code::E_UNSUPPORTED, "config: compression_training: not built for a host's own graph");
    if (adapters_) return fail(Code::E_UNSUPPORTED, "config: compression_training: not built together with lora");
    if (config_.zero_stage >= 3 || config_.zero.offload_param.on_disk()) return fail(Code::E_UNSUPPORTED, "config: compression_training: not built for zero_optimization.stage 3, whose weights lie in parts");
    const std::map<std::string, bool> modules = linear_modules(graph);
    if (modules.empty()) return fail(Code::E_UNSUPPORTED, "config: compression_training: this model has no linear modules");
    const auto at = [&](const std::string& module) -> ModuleCompression& {
        ModuleCompression& how = compression_[module];
        how.out_first = modules.at(module);
        return how;
    };
    const auto width = [&](const std::string& module, bool in) { return graph.type(graph.find(module + ".weight")).shape[modules.at(module) == in ? 1 : 0]; };
    const Technique quantize(given, modules, "weight_quantization");
    if (quantize.enabled())
        DS_CHECK(quantize.each([&](const std::string& path, const Json& params, const std::string& module, const auto&) -> Status {
            WeightBits w;
            const Json& shared = quantize.shared();
            w.offset = quantize.offset(0);
            w.groups = shared.value("quantize_groups", int64_t{1});
            w.asymmetric = shared.value("quantization_type", "symmetric") == "asymmetric";
            w.in_forward = shared.value("quantize_weight_in_forward", false);
            DS_TRY(w.start, whole(path, params, "start_bits", 1, 16));
            DS_TRY(w.target, whole(path, params, "target_bits", 1, 16));
            DS_TRY(w.period, whole(path, params, "quantization_period", 0, INT32_MAX, 1));
            if (w.target > w.start) return refuse(path + ".target_bits", fmt::format("must be at most start_bits, which is {}; is {}", w.start, w.target));
            if (w.asymmetric && w.target < 3) return refuse(path + ".target_bits", fmt::format("{} bits are symmetric only", w.target));
            if (const int64_t n = width(module, true) * width(module, false); n % w.groups) return refuse("weight_quantization.shared_parameters.quantize_groups", fmt::format("{} does not divide the {} elements of {}", w.groups, n, module));
            at(module).weight = w;
            return ok();
        }));
    const Technique activations(given, modules, "activation_quantization");
    if (activations.enabled()) {
        if (activations.shared().value("range_calibration", "dynamic") == "static") return lack("activation_quantization.shared_parameters.range_calibration", "static is not built; dynamic takes each token's own range");
        DS_CHECK(activations.each([&](const std::string& path, const Json& params, const std::string& module, const auto&) -> Status {
            DS_TRY(const int64_t bits, whole(path, params, "bits", 4, 8));
            if (bits != 4 && bits != 8) return refuse(path + ".bits", fmt::format("must be 4 or 8, is {}", bits));
            at(module).activation = ActivationBits{bits, activations.offset(1000), activations.shared().value("quantization_type", "symmetric") == "asymmetric"};
            return ok();
        }));
    }
    for (const auto& [name, member] : {std::pair{"sparse_pruning", &ModuleCompression::sparse}, {"row_pruning", &ModuleCompression::rows}, {"head_pruning", &ModuleCompression::heads}}) {
        const Technique technique(given, modules, name);
        if (!technique.enabled()) continue;
        DS_CHECK(technique.each([&, name = name, member = member](const std::string& path, const Json& params, const std::string& module, const std::vector<std::string>& related) -> Status {
            DS_TRY(PruneRule rule, prune_rule(name, technique, path, params, related));
            if (member == &ModuleCompression::sparse) {
                DS_CHECK(read_pattern(technique.shared(), rule));
                const int64_t row = graph.type(graph.find(module + ".weight")).shape[1];
                if (rule.m && row % rule.m) return refuse("sparse_pruning.shared_parameters.block_pattern", fmt::format("rows of {} have {} elements, not a multiple of {}", module, row, rule.m));
            }
            if (member == &ModuleCompression::heads) {
                DS_TRY(rule.heads, whole("head_pruning.shared_parameters", technique.shared(), "num_heads", 1, INT32_MAX));
                if (width(module, true) % rule.heads) return refuse("head_pruning.shared_parameters.num_heads", fmt::format("{} does not divide the {} inputs of {}", rule.heads, width(module, true), module));
            }
            at(module).*member = std::move(rule);
            return ok();
        }));
    }
    return ok();
}

// A student's layers are some of the teacher's, whose folder the config names (compress.py: student_initialization).
Status Engine::reduce_layers(Json& model_config) {
    const Json section = config_.compression.is_null() ? Json::object() : config_.compression.value("layer_reduction", Json::object());
    if (section.value("enabled", Json(false)) != true) return ok();
    const Json layers = section.value("teacher_layer", Json::array()), keep = section.value("keep_number_layer", Json());
    const char* key = model_config.contains("num_hidden_layers") ? "num_hidden_layers" : "n_layer";
    const Json all = model_config.value(key, Json());
    if (!all.is_number_integer()) return lack("layer_reduction", fmt::format("config.json has neither num_hidden_layers nor n_layer, so the layers of a {} can't be reduced", model_config.value("model_type", "model")));
    if (!layers.is_array() || layers.empty() || !std::all_of(layers.begin(), layers.end(), [&](const Json& x) { return x.is_number_integer() && x >= 0 && x < all; }))
        return refuse("layer_reduction.teacher_layer", fmt::format("must be a list of layers from 0 to {}, is {}", all.get<int64_t>() - 1, layers.dump()));
    if (keep.is_number() && keep != layers.size()) return refuse("layer_reduction.keep_number_layer", fmt::format("is {}, but teacher_layer has {} entries", keep.dump(), layers.size()));
    if (!section.value("module_name_prefix", Json()).is_string()) return refuse("layer_reduction.module_name_prefix", "needed: what layers' names begin with, as \"bert.encoder.layer\"");
    teacher_layers_ = layers.get<std::vector<int64_t>>();
    for (const char* list : {"layer_types", "attention_layers"})  // an entry a layer
        if (model_config.contains(list) && model_config[list].is_array() && model_config[list].size() == all) {
            Json kept = Json::array();
            for (const int64_t layer : teacher_layers_) kept.push_back(model_config[list][static_cast<size_t>(layer)]);
            model_config[list] = kept;
        }
    model_config[key] = teacher_layers_.size();
    return ok();
}

std::optional<std::string> Engine::teachers_name(const std::string& name) const {
    if (teacher_layers_.empty()) return name;
    const Json& section = config_.compression["layer_reduction"];
    const std::string prefix = section["module_name_prefix"].get<std::string>() + ".";
    if (name.starts_with(prefix)) {
        const size_t dot = name.find('.', prefix.size());
        const std::string number = name.substr(prefix.size(), dot - prefix.size());
        if (dot != name.npos && !number.empty() && number.find_first_not_of("0123456789") == number.npos && static_cast<size_t>(std::stoul(number)) < teacher_layers_.size())
            return prefix + std::to_string(teacher_layers_[std::stoul(number)]) + name.substr(dot);
    }
    for (const Json& other : section.value("other_module_name", Json::array()))
        if (other.is_string() && (name == other.get<std::string>() || name.starts_with(other.get<std::string>() + "."))) return name;
    return std::nullopt;
}

// What was largest when the engine was made, or when weights without masks were loaded.
Status Engine::make_masks(const std::set<std::string>& known) {
    for (const auto& [module, how] : compression_) {
        const Param& weight = *params_->find(module + ".weight");
        HostTensor w = HostTensor::zeros(DType::f32, weight.shape);
        DS_CHECK(whole_->read(weight, {Field::weight}, w.as<float>().data()));
        const auto put = [&](const PruneRule& rule, const std::string& name, const std::vector<float>& scores) -> Status {
            if (known.count(name)) return ok();
            std::vector<float> mask(scores.size());
            top_mask(scores.data(), mask.data(), static_cast<int64_t>(scores.size()), rule.keep, rule.n, rule.m);
            return whole_->write(*params_->find(name), {Field::weight}, mask.data());
        };
        std::vector<float> sizes;
        for (const float x : w.as<float>()) sizes.push_back(std::abs(x));
        if (how.sparse && !how.sparse->learned) DS_CHECK(put(*how.sparse, module + kSparseMask, sizes));
        if (!how.rows || how.rows->learned) continue;
        const int64_t columns = weight.shape[1], outs = weight.shape[how.out_first ? 0 : 1];
        std::vector<double> sums(static_cast<size_t>(outs), 0.0);
        for (size_t i = 0; i < sizes.size(); ++i) sums[how.out_first ? i / static_cast<size_t>(columns) : i % static_cast<size_t>(columns)] += sizes[i];
        DS_CHECK(put(*how.rows, module + kRowMask, std::vector<float>(sums.begin(), sums.end())));
    }
    return ok();
}

// Another step may have another graph: plans of the old one go.
void Engine::follow_compression() {
    if (compression_.empty()) return;
    auto active = active_compression(compression_, updates_);
    if (active == active_compression_) return;
    active_compression_ = std::move(active);
    compressed_updates_ = updates_;
    pending_.reset();
    last_.reset();
    recorded_plan_ = nullptr;
    for (const auto& rank : *ranks_) rank->plans.clear(), rank->choices.clear();
}

Result<std::vector<float>> Engine::mask_values(const PruneRule& rule, const std::string& mask, const std::string& scores) const {
    const Param& p = *params_->find(rule.learned ? scores : mask);
    std::vector<float> values(static_cast<size_t>(elements(p.shape)));
    DS_CHECK(read_whole("ds_export", p, {Field::weight}, values.data()));
    if (rule.learned) {
        const std::vector<float> trained = values;
        top_mask(trained.data(), values.data(), static_cast<int64_t>(values.size()), rule.keep, rule.n, rule.m);
    }
    return values;
}

// For the writer of an export. Weights as the forward pass uses them now, and what may be taken out of them: by parameter's name.
Result<std::map<std::string, HostTensor>> Engine::compressed_weights(Json& config) const {
    std::map<std::string, HostTensor> tensors;
    struct Removal { std::string module; std::vector<float> mask; int64_t unit; std::vector<std::string> related; bool heads; };
    std::vector<Removal> removals;
    const auto read = [&](const std::string& name) -> Result<HostTensor> {
        if (const auto known = tensors.find(name); known != tensors.end()) return known->second;
        const Param& p = *params_->find(name);
        HostTensor t = HostTensor::zeros(DType::f32, p.shape);
        DS_CHECK(read_whole("ds_export", p, {Field::weight}, t.as<float>().data()));
        return t;
    };
    for (const auto& [module, how] : compression_) {
        DS_TRY(HostTensor w, read(module + ".weight"));
        float* x = w.as<float>().data();
        const int64_t n = w.count(), columns = w.shape[1];
        if (const int64_t bits = how.weight ? how.weight->at(updates_) : 0)
            for (int64_t g = 0, size = n / how.weight->groups; g < how.weight->groups; ++g) fake_quantize_group(x + g * size, x + g * size, size, bits, how.weight->asymmetric && bits > 2);
        if (how.sparse && updates_ >= how.sparse->offset) {
            DS_TRY(const auto mask, mask_values(*how.sparse, module + kSparseMask, module + kSparseScores));
            for (int64_t i = 0; i < n; ++i) x[i] *= mask[static_cast<size_t>(i)];
        }
        const auto out_of = [&](int64_t i) { return how.out_first ? i / columns : i % columns; };
        const auto in_of = [&](int64_t i) { return how.out_first ? i % columns : i / columns; };
        if (how.rows && updates_ >= how.rows->offset) {
            DS_TRY(auto mask, mask_values(*how.rows, module + kRowMask, module + kRowScores));
            for (int64_t i = 0; i < n; ++i) x[i] *= mask[static_cast<size_t>(out_of(i))];
            if (params_->find(module + ".bias")) {
                DS_TRY(HostTensor bias, read(module + ".bias"));
                for (size_t i = 0; i < mask.size(); ++i) bias.as<float>()[i] *= mask[i];
                tensors[module + ".bias"] = std::move(bias);
            }
            if (!how.rows->related.empty()) removals.push_back({module, std::move(mask), 1, how.rows->related, false});
        }
        if (how.heads && updates_ >= how.heads->offset) {
            DS_TRY(auto mask, mask_values(*how.heads, "", module + kHeadScores));
            const int64_t unit = w.shape[how.out_first ? 1 : 0] / how.heads->heads;
            for (int64_t i = 0; i < n; ++i) x[i] *= mask[static_cast<size_t>(in_of(i) / unit)];
            if (!how.heads->related.empty()) removals.push_back({module, std::move(mask), unit, how.heads->related, true});
        }
        tensors[module + ".weight"] = std::move(w);
    }
    if (removals.empty()) return tensors;

    // Smaller matrices, if the model's format has a size for them that all layers share.
    std::map<std::string, HostTensor> smaller = tensors;
    const PlanKey smallest = smallest_key();
    DS_TRY(const Graph graph, program_->build(smallest.shape, smallest.outputs));
    const auto modules = linear_modules(graph);
    const auto cut = [&](const std::string& module, bool outputs, const Removal& r) -> Result<bool> {
        const bool out_first = modules.at(module);
        const auto now = smaller.find(module + ".weight");
        DS_TRY(const HostTensor w, now != smaller.end() ? Result<HostTensor>(now->second) : read(module + ".weight"));
        const int dim = out_first == outputs ? 0 : 1;
        if (w.shape[static_cast<size_t>(dim)] != static_cast<int64_t>(r.mask.size()) * r.unit) return false;
        smaller[module + ".weight"] = without(w, dim, r.mask, r.unit);
        if (!outputs || !params_->find(module + ".bias")) return true;
        const auto bias_now = smaller.find(module + ".bias");
        DS_TRY(const HostTensor bias, bias_now != smaller.end() ? Result<HostTensor>(bias_now->second) : read(module + ".bias"));
        smaller[module + ".bias"] = without(bias, 0, r.mask, r.unit);
        return true;
    };
    Json changed = config;
    bool fits = true;
    for (const Removal& r : removals) {
        const auto kept = static_cast<int64_t>(std::count_if(r.mask.begin(), r.mask.end(), [](float m) { return m != 0; }));
        DS_TRY(const bool own, cut(r.module, !r.heads, r));
        fits &= own && kept > 0;
        for (const std::string& other : r.related) {
            DS_TRY(const bool its, cut(other, r.heads, r));
            fits &= its;
        }
        if (r.heads) {
            fits &= config.value("num_key_value_heads", Json(r.mask.size())) == r.mask.size() && config.contains("num_attention_heads");
            changed["num_attention_heads"] = kept, changed["head_dim"] = r.unit;
            if (config.contains("num_key_value_heads")) changed["num_key_value_heads"] = kept;
            continue;
        }
        for (const char* key : {"intermediate_size", "n_inner"})
            if (config.contains(key) && (config[key] == r.mask.size() || config[key].is_null())) changed[key] = kept;
    }
    const auto shapes_fit = [&]() -> bool {
        auto model = make_model(changed);
        if (!model.ok()) return false;
        const auto program = make_program(std::shared_ptr<const Model>(std::move(model).value()), {});
        const auto there = program->build(smallest.shape, smallest.outputs);
        if (!there.ok()) return false;
        for (const ValueId id : there->inputs) {
            const Value& v = there->value(id);
            if (v.kind != Kind::param) continue;
            const auto found = smaller.find(v.name);
            if (const Param* p = params_->find(v.name); !p || v.type.shape != (found != smaller.end() ? found->second.shape : p->shape)) return false;
        }
        return true;
    };
    if (!fits || !shapes_fit()) {
        log(Level::warn, "export", "compression_training: config.json has no sizes for what is left of each layer, so what was pruned is written as zeros");
        return tensors;
    }
    config = std::move(changed);
    return smaller;
}

}  // namespace ds
