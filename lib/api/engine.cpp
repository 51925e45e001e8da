// ds_engine_* and the calls of a training step.
#include "dsrt/engine.h"

#include "api/engine.h"
#include "api/host.h"
#include "api/options.h"

using namespace ds;
using namespace ds::api;

Result<Batch> ds::api::batch_of(const ds_batch* b) {
    DS_USE(const auto batch, b);
    return batch->tensors;
}

namespace {

Result<std::optional<std::string_view>> config_argument(const char* config) {
    if (!config) return std::optional<std::string_view>();
    DS_REQUIRE(valid_utf8(config), "config must be UTF-8");
    return std::optional<std::string_view>(config);
}

}  // namespace

ds_status ds_engine_create(const char* config, const ds_options* options, ds_engine** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_TRY(const auto text, config_argument(config));
        DS_TRY(HostOptions parts, parts_of(options));
        // The engine's own flag, for ds_engine_destroy, beside the host's, which other engines may share.
        const auto stop = std::make_shared<CancelFlag>();
        stop->parent = parts.cancel;
        parts.cancel = stop;
        auto object = std::make_shared<EngineObject>();
        DS_TRY(object->engine, Engine::create(text, parts));
        const std::weak_ptr<Engine> engine = object->engine;
        *out = new_handle<ds_engine>(std::move(object), [stop, engine] {
            stop->set(true);
            if (const auto running = engine.lock()) running->job().end();
        });
        return ok();
    });
}

ds_status ds_plan(const char* config, const ds_options* options, char** report_json) {
    return guard([&]() -> Status {
        DS_NOT_NULL(report_json);
        *report_json = nullptr;
        DS_TRY(const auto text, config_argument(config));
        DS_TRY(const HostOptions parts, parts_of(options));
        DS_TRY(const std::string report, Engine::plan_of(text, parts));
        DS_TRY(*report_json, handed_out(report));
        return ok();
    });
}

ds_status ds_forward(ds_engine* e, const ds_batch* b, float* loss) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        DS_TRY(const Batch batch, batch_of(b));
        return engine->engine->forward(batch, loss);
    });
}

ds_status ds_backward(ds_engine* e) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        return engine->engine->backward();
    });
}

ds_status ds_backward_from(ds_engine* e, const ds_batch* gradients) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        DS_TRY(const Batch batch, batch_of(gradients));
        return engine->engine->backward_from(batch);
    });
}

ds_status ds_step(ds_engine* e) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        return engine->engine->step();
    });
}

ds_status ds_zero_grad(ds_engine* e) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        return engine->engine->zero_grad();
    });
}

ds_status ds_train_batch(ds_engine* e, ds_data* data, float* loss) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        DS_USE(const auto source, data);
        DS_CHECK(source->check_alive());
        DS_REQUIRE(!source->bound || source->engine.lock() == engine.slot().lock(), "data was opened with another engine");
        if (source->bound) engine->engine->attach_data(source->source, Engine::Attached::trained_on);
        return engine->engine->train_batch(*source->source, loss);
    });
}

ds_status ds_eval(ds_engine* e, const ds_batch* b, float* loss) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        DS_TRY(const Batch batch, batch_of(b));
        return engine->engine->eval(batch, loss);
    });
}

ds_status ds_engine_set(ds_engine* e, const char* key, const char* json) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        DS_TRY(const std::string path, text_argument(key, "key"));
        DS_TRY(const std::string value, text_argument(json, "json"));
        return engine->engine->set(path, value);
    });
}

ds_status ds_engine_get(ds_engine* e, const char* key, char** json) {
    return guard([&]() -> Status {
        DS_NOT_NULL(json);
        *json = nullptr;
        DS_USE(const auto engine, e);
        DS_TRY(const std::string path, text_argument(key, "key"));
        DS_TRY(const std::string value, engine->engine->get(path));
        DS_TRY(*json, handed_out(value));
        return ok();
    });
}

ds_status ds_output(ds_engine* e, const char* name, ds_tensor** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_USE(const auto engine, e);
        DS_TRY(const std::string key, text_argument(name, "name"));
        DS_TRY(HostTensor tensor, engine->engine->output(key));
        *out = new_tensor(std::move(tensor));
        return ok();
    });
}

ds_status ds_metric(const ds_engine* e, const char* name, double* value) {
    return guard([&]() -> Status {
        DS_USE_FREELY(const auto engine, e);
        DS_NOT_NULL(value);
        DS_TRY(const std::string key, text_argument(name, "name"));
        DS_TRY(*value, engine->engine->metric(key));
        return ok();
    });
}

void ds_engine_destroy(ds_engine* e) { destroy(e); }
