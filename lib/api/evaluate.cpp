// ds_evaluate, ds_score: how good a model is, and how good predictions are.
#include "api/engine.h"
#include "api/host.h"
#include "base/json_argument.h"
#include "data/metrics/metrics.h"
#include "dsrt/engine.h"
#include "engine/evaluate.h"

using namespace ds;
using namespace ds::api;

namespace {

// The other side of the config's split: what training does not see.
Result<Json> held_out(Engine& engine) {
    DS_TRY(const std::string text, engine.get("data"));
    DS_TRY(Json data, parse_json(text, "data"));
    DS_REQUIRE(data.is_object() && data.contains("split") && data["split"].is_object(),
               "data_json is NULL, but the config's \"data\" has no \"split\" whose other side could be tested with");
    data["split"]["take"] = "test";
    return data;
}

Result<Json> list_argument(const char* json, const char* argument) {
    DS_TRY(const std::string text, text_argument(json, argument));
    return parse_argument(text, argument);
}

}  // namespace

ds_status ds_evaluate(ds_engine* e, const char* data_json, const char* options_json, char** scores_json) {
    return guard([&]() -> Status {
        DS_NOT_NULL(scores_json);
        *scores_json = nullptr;
        DS_USE(const auto engine, e);
        DS_TRY(const Json options, json_argument(options_json, "options_json"));
        Json data;
        if (data_json) {
            DS_TRY(data, json_argument(data_json, "data_json"));
        } else {
            DS_TRY(data, held_out(*engine->engine));
        }
        DS_TRY(const Json scores, evaluate(*engine->engine, std::move(data), options));
        DS_TRY(*scores_json, handed_out(scores.dump()));
        return ok();
    });
}

ds_status ds_score(const char* metric, const char* predictions_json, const char* references_json, char** scores_json) {
    return guard([&]() -> Status {
        DS_NOT_NULL(scores_json);
        *scores_json = nullptr;
        DS_TRY(const std::string name, text_argument(metric, "metric"));
        DS_TRY(const Json predictions, list_argument(predictions_json, "predictions_json"));
        DS_TRY(const Json references, list_argument(references_json, "references_json"));
        DS_TRY(const Json scores, metrics::score(name, predictions, references));
        DS_TRY(*scores_json, handed_out(scores.dump()));
        return ok();
    });
}
