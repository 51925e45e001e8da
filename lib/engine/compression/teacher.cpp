#include "engine/compression/teacher.h"

#include "engine/hf_folder.h"
#include "passes/pass.h"

namespace ds {

Result<std::unique_ptr<Teacher>> Teacher::make(const Config& config, const Json& whole, const std::string& folder,
                                               std::vector<int64_t> layers) {
    const Json section = config.compression.is_null() ? Json::object() : config.compression.value("knowledge_distillation", Json::object());
    if (section.value("enabled", Json(false)) != true) return std::unique_ptr<Teacher>();
    const auto lack = [](const std::string& what) {
        return fail(Code::E_UNSUPPORTED, "config: compression_training.knowledge_distillation: not built for {}", what);
    };
    if (config.mesh.tensor > 1 || config.mesh.pipeline > 1 || config.mesh.sequence > 1)
        return lack("parallel.tensor, pipeline or sequence; data ranks each have the teacher");
    auto teacher = std::make_unique<Teacher>();
    teacher->spec_ = {section.value("temperature", 1.0), section.value("alpha", 0.5), section.value("hidden_weight", 0.0),
                      std::move(layers)};
    teacher->folder_ = config.random_init ? "" : folder;
    Json its = whole;
    if (const Json other = section.value("teacher", Json()); other.is_string()) {
        DS_TRY(const ModelSource source, read_model_source(other, {{"architectures", whole.value("architectures", Json())}}));
        its = source.config;
        teacher->folder_ = source.folder.string();
        if (!has_weights(teacher->folder_))
            return fail(Code::E_NOT_FOUND, "config: compression_training.knowledge_distillation.teacher: {} has no model.safetensors",
                        teacher->folder_);
    }
    DS_TRY(teacher->model_, make_model(its));
    if (teacher->model_->encoder_decoder) return lack("encoder-decoders");
    if (teacher->model_->row_loss.value_or(RowLoss::cross_entropy) != RowLoss::cross_entropy)
        return lack("heads whose answer is not one class");
    return teacher;
}

Status Teacher::add_to(Graph& graph, const StreamShape& shape) const {
    if (graph.loss == kNone) return ok();
    Graph teacher;
    Builder b(teacher);
    TokenStream stream(b, shape, {});
    model_->build(b, stream);
    DS_CHECK(b.status());
    DS_CHECK(find_pass("evaluate")->run(teacher, PassOptions{}));
    return add_distillation(graph, teacher, spec_);
}

}  // namespace ds
