// Folders of a compressed model.
#include <algorithm>

#include "base/log.h"
#include "engine/compression/compression.h"
#include "engine/compression/place.h"
#include "engine/program.h"
#include "passes/adapters.h"

namespace ds {
namespace {

using Tensors = std::map<std::string, HostTensor>;

// What may be taken out of a module, and of those related to it.
struct Removal {
    std::string module;
    std::vector<float> mask;  // an entry a unit
    int64_t unit;             // elements of a dimension
    std::vector<std::string> related;
    bool heads;  // of the module's inputs, and the related ones' outputs; else the other way round

    int64_t kept() const {
        return std::count_if(mask.begin(), mask.end(), [](float m) { return m != 0; });
    }
};

HostTensor without(const HostTensor& weight, int dim, const Removal& removal) {
    std::vector<HostTensor> parts;
    for (size_t i = 0; i < removal.mask.size(); ++i)
        if (removal.mask[i] != 0)
            parts.push_back(slice(weight, dim, static_cast<int64_t>(i) * removal.unit, (static_cast<int64_t>(i) + 1) * removal.unit));
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
            log(Level::warn, "export",
                "compression_training: config.json has no sizes for what is left of each layer, so what was pruned is written as zeros");
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

    Result<std::vector<float>> mask_of(const PruneRule& rule, const std::string& mask, const std::string& scores, bool out_first,
                                       int64_t outs) const {
        DS_TRY(HostTensor held, read({}, rule.learned ? scores : mask));
        const std::span<float> values = held.as<float>();
        if (rule.learned) to_mask(values, rule, out_first, outs);
        return std::vector<float>(values.begin(), values.end());
    }

    Status compress(const std::string& module, const ModuleCompression& how) {
        DS_TRY(HostTensor w, read(tensors_, module + ".weight"));
        float* x = w.as<float>().data();
        const int64_t n = w.count(), columns = w.shape[1], outs = w.shape[how.out_first ? 0 : 1];
        const auto output_of = [&](int64_t i) { return how.out_first ? i / columns : i % columns; };
        const auto input_of = [&](int64_t i) { return how.out_first ? i % columns : i / columns; };
        if (const int64_t bits = how.weight ? how.weight->at(updates_) : 0)
            by_outputs(w.as<float>(), how.out_first, outs, [&](std::span<float> all) {
                const int64_t size = n / how.weight->groups;
                for (float* group = all.data(); group < all.data() + n; group += size)
                    fake_quantize_group(group, group, size, bits, how.weight->asymmetric && bits > 2);
            });
        const auto is_on = [&](const std::optional<PruneRule>& rule) { return rule && updates_ >= rule->offset; };
        if (is_on(how.sparse)) {
            DS_TRY(const auto mask, mask_of(*how.sparse, module + kSparseMask, module + kSparseScores, how.out_first, outs));
            for (int64_t i = 0; i < n; ++i) x[i] *= mask[static_cast<size_t>(i)];
        }
        if (is_on(how.rows)) {
            DS_TRY(auto mask, mask_of(*how.rows, module + kRowMask, module + kRowScores, how.out_first, outs));
            for (int64_t i = 0; i < n; ++i) x[i] *= mask[static_cast<size_t>(output_of(i))];
            if (const std::string bias = module + ".bias"; source_.params.find(bias)) {
                DS_TRY(HostTensor b, read(tensors_, bias));
                for (size_t i = 0; i < mask.size(); ++i) b.as<float>()[i] *= mask[i];
                tensors_[bias] = std::move(b);
            }
            if (!how.rows->related.empty()) removals_.push_back({module, std::move(mask), 1, how.rows->related, false});
        }
        if (is_on(how.heads)) {
            DS_TRY(auto mask, mask_of(*how.heads, "", module + kHeadScores, how.out_first, outs));
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

Result<std::map<std::string, HostTensor>> compressed_weights(const CompressionSpec& spec, int64_t updates, const ExportSource& source,
                                                             Json& config) {
    return Exporter(spec, updates, source).run(config);
}

}  // namespace ds
