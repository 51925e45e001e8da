// knowledge_distillation: the teacher that stands in a student's training graphs. It is frozen, is no parameter that a host sees, and comes from its folder again
// instead of from checkpoints.
#include "engine/engine.h"
#include "engine/hf_folder.h"
#include "passes/pass.h"

namespace ds {

// whole: the config.json of the model as the config names it, before layers were taken out.
Status Engine::make_teacher(const Json& whole) {
    const Json section = config_.compression.is_null() ? Json::object() : config_.compression.value("knowledge_distillation", Json::object());
    if (section.value("enabled", Json(false)) != true) return ok();
    const auto lack = [](const std::string& what) { return fail(Code::E_UNSUPPORTED, "config: compression_training.knowledge_distillation: not built for {}", what); };
    if (config_.mesh.tensor > 1 || config_.mesh.pipeline > 1 || config_.mesh.sequence > 1) return lack("parallel.tensor, pipeline or sequence; data ranks each have the teacher");
    distillation_ = {section.value("temperature", 1.0), section.value("alpha", 0.5), section.value("hidden_weight", 0.0), teacher_layers_};
    Json config = whole;
    teacher_folder_ = model_folder_;
    if (const Json folder = section.value("teacher", Json()); folder.is_string()) {
        DS_TRY(const ModelSource source, read_model_source(folder, {{"architectures", whole.value("architectures", Json())}}));
        config = source.config;
        teacher_folder_ = source.folder.string();
        if (!has_weights(teacher_folder_)) return fail(Code::E_NOT_FOUND, "config: compression_training.knowledge_distillation.teacher: {} has no model.safetensors", teacher_folder_);
    }
    DS_TRY(auto model, make_model(config));
    if (model->encoder_decoder) return lack("encoder-decoders");
    if (model->row_loss.value_or(RowLoss::cross_entropy) != RowLoss::cross_entropy) return lack("heads whose answer is not one class");
    teacher_ = std::move(model);
    return ok();
}

// Where graphs have a loss and are trained; the engine's first graph declares what all have.
Status Engine::add_teacher(Graph& graph, const StreamShape& shape) const {
    if (!teacher_ || graph.loss == kNone) return ok();
    Graph teacher;
    Builder b(teacher);
    TokenStream stream(b, shape, {});
    teacher_->build(b, stream);
    DS_CHECK(b.status());
    DS_CHECK(find_pass("evaluate")->run(teacher, PassOptions{}));
    return add_distillation(graph, teacher, distillation_);
}

Status Engine::load_teacher() {
    if (!teacher_ || teacher_folder_.empty() || (config_.random_init && teacher_folder_ == model_folder_)) return ok();
    return load_folder(teacher_folder_, std::string(kTeacher), teacher_->base_prefix);
}

}  // namespace ds
