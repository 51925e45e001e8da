// Folders of a compressed model.
#include <algorithm>

#include "base/log.h"
#include "engine/compression/compression.h"
#include "engine/compression/place.h"
#include "engine/program.h"
#include "kernels/compress.h"
#include "passes/adapters.h"

namespace ds {
namespace {

using Tensors = std::map<std::string, HostTensor>;

// What may be taken out of a module, and of those related to it.
struct Removal {
    std::string module;
    std::vector<float> mask;           // an entry a unit
    int64_t unit;                      // elements of a dimension
    std::vector<std::string> related;
    bool heads;                        // of the module's inputs, and the related ones' outputs; else the other way round

    int64_t kept() const { return std::count_if(mask.begin(), mask.end(), [](float m) { return m != 0; }); }
};

HostTensor without(const HostTensor& weight, int dim, const Removal& removal) {
    std::vector<HostTensor> parts;
    for (size_t i = 0; i < removal.mask.size(); ++i)
        if (removal.mask[i] != 0) parts.push_back(slice(weight, dim, static_cast<int64_t>(i) * removal.unit, (static_cast<int64_t>(i) + 1) * removal.unit));
    return concat(parts, dim);
}

class Exporter {
public:
    Exporter(const CompressionSpec& spec, int64_t updates, const ExportSource& source) : spec_(spec), updates_(updates), source_(source) {}

    Result<Tensors> run(Json& config) {
        for (const auto& [module, how] : spec_) DS_CHECK(compress(module, how));
        if (removals_.empty()) return tensors_;
        smaller_ = tensors_;
        DS_TRY(graph_, source_.program.build(source_.smallest.shape, source_.smallest.outputs));
        modules_ = linear_modules(graph_);
        Json changed = config;
        bool fits = true;
        for (const Removal& removal : removals_) {
            DS_TRY(const bool its, remove(removal, config, changed));
            fits &= its;
        }
        if (!fits || !shapes_fit(changed)) {
            log(Level::warn, "export", "compression_training: config.json has no sizes for what is left of each layer, so what was pruned is written as zeros");
            return tensors_;
        }
        config = std::move(changed);
        return smaller_;
    }

private:
    // As it is by now, in `tensors`, or in the engine.
    Result<HostTensor> read(const Tensors& tensors, const std::string& name) const {
        if (const auto known = tensors.find(name); known != tensors.end()) return known->second;
        const Param& p = *source_.params.find(name);
        HostTensor t = HostTensor::zeros(DType::f32, p.shape);
        DS_CHECK(source_.read(p, t.as<float>().data()));
        return t;
    }

    Result<std::vector<float>> mask_of(const PruneRule& rule, const std::string& mask, const std::string& scores, const ModuleCompression& how) const {
        DS_TRY(HostTensor held, read({}, rule.learned ? scores : mask));
        if (rule.learned && rule.m > 0) by_groups(held, how, held.count(), [&](float* all, int64_t n) { top_mask(std::vector<float>(all, all + n).data(), all, n, rule.keep, rule.n, rule.m); });
        else if (rule.learned) top_mask(std::vector<float>(held.as<float>().begin(), held.as<float>().end()).data(), held.as<float>().data(), held.count(), rule.keep, rule.n, rule.m);
        return std::vector<float>(held.as<float>().begin(), held.as<float>().end());
    }

    // f changes each `size` elements of a matrix, counted by outputs and their inputs.
    template <class F>
    static void by_groups(HostTensor& w, const ModuleCompression& how, int64_t size, const F& f) {
        const int64_t n = w.count(), outs = w.shape[how.out_first ? 0 : 1], ins = w.shape[how.out_first ? 1 : 0];
        float* x = w.as<float>().data();
        std::vector<float> ordered(static_cast<size_t>(n));
        for (int64_t e = 0; e < n; ++e) ordered[static_cast<size_t>(e)] = x[place_of(e, how.out_first, outs, ins)];
        for (int64_t at = 0; at < n; at += size) f(ordered.data() + at, size);
        for (int64_t e = 0; e < n; ++e) x[place_of(e, how.out_first, outs, ins)] = ordered[static_cast<size_t>(e)];
    }

    Status compress(const std::string& module, const ModuleCompression& how) {
        DS_TRY(HostTensor w, read(tensors_, module + ".weight"));
        float* x = w.as<float>().data();
        const int64_t n = w.count(), columns = w.shape[1];
        const auto output_of = [&](int64_t i) { return how.out_first ? i / columns : i % columns; };
        const auto input_of = [&](int64_t i) { return how.out_first ? i % columns : i / columns; };
        if (const int64_t bits = how.weight ? how.weight->at(updates_) : 0)
            by_groups(w, how, n / how.weight->groups, [&](float* group, int64_t size) { fake_quantize_group(group, group, size, bits, how.weight->asymmetric && bits > 2); });
        const auto is_on = [&](const std::optional<PruneRule>& rule) { return rule && updates_ >= rule->offset; };
        if (is_on(how.sparse)) {
            DS_TRY(const auto mask, mask_of(*how.sparse, module + kSparseMask, module + kSparseScores, how));
            for (int64_t i = 0; i < n; ++i) x[i] *= mask[static_cast<size_t>(i)];
        }
        if (is_on(how.rows)) {
            DS_TRY(auto mask, mask_of(*how.rows, module + kRowMask, module + kRowScores, how));
            for (int64_t i = 0; i < n; ++i) x[i] *= mask[static_cast<size_t>(output_of(i))];
            if (const std::string bias = module + ".bias"; source_.params.find(bias)) {
                DS_TRY(HostTensor b, read(tensors_, bias));
                for (size_t i = 0; i < mask.size(); ++i) b.as<float>()[i] *= mask[i];
                tensors_[bias] = std::move(b);
            }
            if (!how.rows->related.empty()) removals_.push_back({module, std::move(mask), 1, how.rows->related, false});
        }
        if (is_on(how.heads)) {
            DS_TRY(auto mask, mask_of(*how.heads, "", module + kHeadScores, how));
            const int64_t unit = w.shape[how.out_first ? 1 : 0] / how.heads->heads;
            for (int64_t i = 0; i < n; ++i) x[i] *= mask[static_cast<size_t>(input_of(i) / unit)];
            if (!how.heads->related.empty()) removals_.push_back({module, std::move(mask), unit, how.heads->related, true});
        }
        tensors_[module + ".weight"] = std::move(w);
        return ok();
    }

    // Takes units out of a module's outputs or inputs. Whether there were as many.
    Result<bool> cut(const std::string& module, bool outputs, const Removal& removal) {
        DS_TRY(const HostTensor w, read(smaller_, module + ".weight"));
        const int dim = modules_.at(module) == outputs ? 0 : 1;
        if (w.shape[static_cast<size_t>(dim)] != static_cast<int64_t>(removal.mask.size()) * removal.unit) return false;
        smaller_[module + ".weight"] = without(w, dim, removal);
        if (const std::string bias = module + ".bias"; outputs && source_.params.find(bias)) {
            DS_TRY(const HostTensor b, read(smaller_, bias));
            smaller_[bias] = without(b, 0, removal);
        }
        return true;
    }

    // Whether config.json can say so, and how it then does.
    Result<bool> remove(const Removal& r, const Json& config, Json& changed) {
        DS_TRY(bool fits, cut(r.module, !r.heads, r));
        for (const std::string& other : r.related) {
            DS_TRY(const bool its, cut(other, r.heads, r));
            fits &= its;
        }
        const Json units = r.mask.size();
        if (r.heads) {
            fits &= config.contains("num_attention_heads") && config.value("num_key_value_heads", units) == units;
            changed["num_attention_heads"] = r.kept(), changed["head_dim"] = r.unit;
            if (config.contains("num_key_value_heads")) changed["num_key_value_heads"] = r.kept();
        } else {
            for (const char* key : {"intermediate_size", "n_inner"})
                if (config.contains(key) && (config[key] == units || config[key].is_null())) changed[key] = r.kept();
        }
        return fits && r.kept() > 0;
    }

    // Whether a model of this config.json has these weights.
    bool shapes_fit(const Json& config) const {
        auto model = make_model(config);
        if (!model.ok()) return false;
        const auto program = make_program(std::shared_ptr<const Model>(std::move(model).value()), {});
        const auto there = program->build(source_.smallest.shape, source_.smallest.outputs);
        if (!there.ok()) return false;
        return std::all_of(there->inputs.begin(), there->inputs.end(), [&](ValueId id) {
            const Value& v = there->value(id);
            if (v.kind != Kind::param) return true;
            const Param* p = source_.params.find(v.name);
            const auto found = smaller_.find(v.name);
            return p && v.type.shape == (found != smaller_.end() ? found->second.shape : p->shape);
        });
    }

    const CompressionSpec& spec_;
    const int64_t updates_;
    const ExportSource& source_;
    Tensors tensors_, smaller_;  // with zeros, and without
    std::vector<Removal> removals_;
    Graph graph_;
    std::map<std::string, bool> modules_;
};

}  // namespace

Result<std::map<std::string, HostTensor>> compressed_weights(const CompressionSpec& spec, int64_t updates, const ExportSource& source, Json& config) {
    return Exporter(spec, updates, source).run(config);
}

}  // namespace ds
