// ds_data_*: batches from files, or from a host's own iterator.
#include "dsrt/data.h"

#include <cstdlib>

#include "api/engine.h"
#include "api/host.h"

using namespace ds;
using namespace ds::api;

Status ds::api::DataObject::check_alive() const {
    if (bound && destroyed(engine)) return fail(Code::E_STATE, "the engine that this ds_data was opened with was destroyed");
    return ok();
}

namespace {

// A host's iterator. Its functions run on the thread that asks, which is inside a dsrt call.
class HostSource : public DataSource {
public:
    HostSource(const ds_data_source& callbacks, std::shared_ptr<HostData> held) : callbacks_(callbacks), held_(std::move(held)) {}

    Status next(Batch& batch) override {
        batch.clear();
        const auto object = std::make_shared<BatchObject>();
        ds_batch* handle = new_handle<ds_batch>(object);
        const int32_t code = callbacks_.next(held_->user, handle);
        destroy_handle(handle, HandleType<ds_batch>::name);
        if (code == DS_END) return Status(Code::END);
        if (code != DS_OK) return from_callback(code, "data source's next()");
        batch = std::move(object->tensors);
        return ok();
    }

    Result<Json> save() const override {
        if (!callbacks_.save) return Json();
        char* json = nullptr;
        const int32_t code = callbacks_.save(held_->user, &json);
        const std::unique_ptr<char, void (*)(void*)> owned(json, std::free);
        if (code != DS_OK) return from_callback(code, "data source's save()");
        if (!json) return fail(Code::E_USER, "the host's data source's save() returned no text");
        return parse_json(json, "the cursor of the host's data source");
    }

    Status restore(const Json& cursor) override {
        if (cursor.is_null()) return ok();  // saved by a source without a cursor
        if (!callbacks_.restore)
            return fail(Code::E_UNSUPPORTED, "the host's data source has no restore(), and a cursor is to be restored");
        const int32_t code = callbacks_.restore(held_->user, cursor.dump().c_str());
        return code == DS_OK ? ok() : from_callback(code, "data source's restore()");
    }

private:
    const ds_data_source callbacks_;
    const std::shared_ptr<HostData> held_;
};

// The handle, and the engine's knowledge of it.
ds_data* new_data(std::shared_ptr<DataSource> source, const std::optional<Use<ds_engine>>& engine) {
    auto object = std::make_shared<DataObject>();
    object->source = std::move(source);
    if (engine) {
        object->bound = true;
        object->engine = engine->slot();
        (*engine)->engine->attach_data(object->source, Engine::Attached::opened);
    }
    return new_handle<ds_data>(std::move(object));
}

Result<std::optional<Use<ds_engine>>> optional_engine(ds_engine* e) {
    std::optional<Use<ds_engine>> engine;
    if (e) {
        DS_TRY(auto used, use(e, "e"));
        engine.emplace(std::move(used));
    }
    return engine;
}

}  // namespace

ds_status ds_data_open(const char* options_json, ds_engine* e, ds_data** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_TRY(const auto engine, optional_engine(e));
        DS_REQUIRE(options_json || engine, "options_json must not be NULL without an engine whose config has \"data\"");
        std::string text = options_json ? options_json : "";
        if (!options_json) {
            DS_TRY(text, (*engine)->engine->get("data"));
            DS_REQUIRE(text != "{}" && text != "null", "options_json is NULL, but the engine's config has no \"data\"");
        }
        DS_TRY(const Json options, json_argument(text.c_str(), "data"));
        DS_TRY(std::shared_ptr<DataSource> source, open_data(options, engine ? (*engine)->engine->data_context() : DataContext{}));
        *out = new_data(std::move(source), engine);
        return ok();
    });
}

ds_status ds_data_create(const ds_data_source* source, ds_engine* e, ds_data** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_TRY(const ds_data_source given, read_struct(source, "ds_data_source"));
        DS_REQUIRE(given.next != nullptr, "ds_data_source: next must not be NULL");
        DS_TRY(const auto engine, optional_engine(e));
        const auto held = std::make_shared<HostData>(given.user);
        *out = new_data(std::make_shared<HostSource>(given, held), engine);
        held->release = given.release;  // only now: a call that fails doesn't release
        return ok();
    });
}

ds_status ds_data_next(ds_data* d, ds_batch* b) {
    return guard([&]() -> Status {
        DS_USE(const auto data, d);
        DS_USE(const auto batch, b);
        DS_CHECK(data->check_alive());
        Batch next;
        const Status status = data->source->next(next);
        if (status.ok()) batch->tensors = std::move(next);  // empty at the end of an epoch
        return status;
    });
}

void ds_data_destroy(ds_data* d) { destroy(d); }
