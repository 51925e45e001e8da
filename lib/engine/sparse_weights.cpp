// sparse_weights: which linear weights of a pruned model's folder are kept as their values that are not zero.
#include "base/log.h"
#include "engine/engine.h"
#include "engine/hf_folder.h"
#include "kernels/sparse.h"
#include "passes/adapters.h"

namespace ds {
namespace {

int64_t nonzeros_of(const TensorView& view) {
    constexpr int64_t kPart = 1 << 16;
    std::vector<float> part(kPart);
    const int64_t n = elements(view.shape);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += kPart) {
        const int64_t here = std::min(kPart, n - i);
        convert(view.data.data() + i * size_of(view.dtype), view.dtype, part.data(), DType::f32, here);
        count += count_nonzeros(part.data(), here);
    }
    return count;
}

}  // namespace

Status Engine::choose_sparse(Graph& graph) {
    if (!config_.sparse_weights.enabled) return ok();
    const auto lack = [](const std::string& what) {
        return fail(Code::E_UNSUPPORTED, "config: sparse_weights.enabled: not built {}", what);
    };
    if (!model_ || !weights_come_from_a_folder()) return lack("for weights that do not come from a model's folder, as ds_export writes it");
    if (!coded_.empty()) return lack("for a folder whose weights are in few bits");
    if (!config_.compression.is_null()) return lack("together with compression_training: export what it made, and use that folder");
    if (!config_.optimizer.type.empty() || options_.optimizer || adapters_)
        return lack("for training: leave out optimizer and lora; compression_training prunes while a model is trained");
    if (config_.mesh.tensor > 1) return lack("for parallel.tensor, which cuts weights; data, sequence and pipeline ranks have them whole");
    DS_TRY(const auto modules, linear_modules_but(graph, std::nullopt, "sparse_weights"));
    DS_TRY(const WeightFolder folder, WeightFolder::open(model_folder_));
    double least = 1;
    std::string sparsest;
    for (const auto& [module, out_first] : modules) {
        Value& weight = graph.value(graph.find(module + ".weight"));
        const std::vector<std::string> found = names_in(folder, weight.name, model_->names);
        const TensorView* view = found.empty() ? nullptr : folder.find(found.front());
        if (!view || view->shape != weight.type.shape || !is_float(view->dtype)) continue;  // load_folder tells
        const int64_t nonzeros = nonzeros_of(*view);
        const double density = static_cast<double>(nonzeros) / static_cast<double>(std::max<int64_t>(elements(view->shape), 1));
        if (density < least || sparsest.empty()) least = density, sparsest = weight.name;
        if (density > config_.sparse_weights.max_density) continue;
        weight.trainable = false;
        coded_[weight.name] = {
            .bits = config_.precision == PrecisionMode::bf16 ? 16 : 32, .out_first = out_first, .sparse = true, .nonzeros = nonzeros};
    }
    if (coded_.empty())
        return fail(Code::E_CONFIG, "config: sparse_weights.max_density: {} leaves no weight; of {}, the sparsest, {:.3g} is not zero",
                    config_.sparse_weights.max_density, sparsest.empty() ? "none" : sparsest, least);
    for (const ValueId id : graph.inputs) graph.value(id).trainable = false;  // nothing is trained through these products
    log(Level::info, "sparse_weights", "{} of {} linear weights are kept as their values that are not zero", coded_.size(), modules.size());
    return ok();
}

Status Engine::check_sparse() const {
    for (const auto& rank : *ranks_)
        if (rank->device && config_.sparse_weights.enabled)
            return fail(Code::E_UNSUPPORTED, "config: sparse_weights.enabled: not built for devices; rank {} computes on {}", rank->index,
                        rank->device->description());
    return ok();
}

}  // namespace ds
