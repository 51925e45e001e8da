#include "engine/compression/compression.h"

#include "kernels/compress.h"

namespace ds {

bool Compression::follow(int64_t updates) {
    auto active = active_compression(spec_, updates);
    const bool changes = active != active_;
    if (changes || !is_followed()) updates_ = updates;
    active_ = std::move(active);
    return changes;
}

Status Compression::make_masks(const ParamStore& params, WholeParams& whole, const std::set<std::string>& known) const {
    for (const auto& [module, how] : spec_) {
        const Param& weight = *params.find(module + ".weight");
        HostTensor w = HostTensor::zeros(DType::f32, weight.shape);
        DS_CHECK(whole.read(weight, {Field::weight}, w.as<float>().data()));
        const auto put = [&](const PruneRule& rule, const std::string& name, const std::vector<float>& scores) -> Status {
            if (known.contains(name)) return ok();
            std::vector<float> mask(scores.size());
            top_mask(scores.data(), mask.data(), static_cast<int64_t>(scores.size()), rule.keep, rule.n, rule.m);
            return whole.write(*params.find(name), {Field::weight}, mask.data());
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

}  // namespace ds
