#include "engine/compression/compression.h"

#include "engine/compression/place.h"

namespace ds {

bool Compression::follow(int64_t updates) {
    auto active = active_compression(spec_, updates);
    const bool changes = active != active_;
    if (changes || !is_followed()) updates_ = updates;
    active_ = std::move(active);
    return changes;
}

bool Compression::has_fixed_ranges() const {
    return std::any_of(spec_.begin(), spec_.end(),
                       [](const auto& module) { return module.second.activation && module.second.activation->fixed; });
}

Status Compression::make_masks(const ParamStore& params, WholeParams& whole, const std::set<std::string>& known) const {
    for (const auto& [module, how] : spec_) {
        const Param& weight = *params.find(module + ".weight");
        HostTensor w = HostTensor::zeros(DType::f32, weight.shape);
        DS_CHECK(whole.read(weight, {Field::weight}, w.as<float>().data()));
        const int64_t outs = weight.shape[how.out_first ? 0 : 1];
        const auto put = [&](const PruneRule& rule, const std::string& name, std::vector<float> scores) -> Status {
            if (known.contains(name)) return ok();
            to_mask(scores, rule, how.out_first, outs);
            return whole.write(*params.find(name), {Field::weight}, scores.data());
        };
        std::vector<float> sizes;
        for (const float x : w.as<float>()) sizes.push_back(std::abs(x));
        if (how.sparse && !how.sparse->learned) DS_CHECK(put(*how.sparse, module + kSparseMask, sizes));
        if (!how.rows || how.rows->learned) continue;
        const int64_t columns = weight.shape[1];
        std::vector<double> sums(static_cast<size_t>(outs), 0.0);
        for (size_t i = 0; i < sizes.size(); ++i)
            sums[how.out_first ? i / static_cast<size_t>(columns) : i % static_cast<size_t>(columns)] += sizes[i];
        DS_CHECK(put(*how.rows, module + kRowMask, std::vector<float>(sums.begin(), sums.end())));
    }
    return ok();
}

}  // namespace ds
