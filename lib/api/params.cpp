// ds_param_*: parameters by the names of model.safetensors; and what goes to and comes from disk.
#include "api/engine.h"
#include "api/host.h"
#include "base/nearest.h"
#include "dsrt/engine.h"

using namespace ds;
using namespace ds::api;

namespace {

Result<const Engine::ParamInfo*> find_param(const Engine& engine, const char* name) {
    DS_TRY(const std::string key, text_argument(name, "name"));
    if (const Engine::ParamInfo* info = engine.find_param(key)) return info;
    std::vector<std::string> names;
    for (size_t i = 0; i < engine.param_count(); ++i) names.push_back(engine.param(i).name);
    return fail(Code::E_NOT_FOUND, "the model has no parameter \"{}\"; did you mean \"{}\"?", key, nearest(key, names));
}

Status check_what(int32_t what) {
    DS_REQUIRE(what >= DS_WEIGHT && what <= DS_SECOND_MOMENT, "what must be 0 (DS_WEIGHT) to 3 (DS_SECOND_MOMENT), but is {}", what);
    return ok();
}

std::optional<std::string_view> or_none(const char* text) { return text ? std::optional<std::string_view>(text) : std::nullopt; }

// One of the calls that take a folder, a tag and options.
template <class F>
ds_status on_folder(ds_engine* e, const char* dir, const char* tag, const char* options_json, F&& f) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        DS_TRY(const std::string folder, text_argument(dir, "dir"));
        DS_REQUIRE(!folder.empty(), "dir must not be empty");
        if (tag) DS_CHECK(text_argument(tag, "tag").status());
        DS_CHECK(json_argument(options_json, "options_json").status());
        return f(*engine->engine, folder, or_none(tag), std::string_view(options_json ? options_json : ""));
    });
}

}  // namespace

ds_status ds_param_count(const ds_engine* e, size_t* n) {
    return guard([&]() -> Status {
        DS_USE_FREELY(const auto engine, e);
        DS_NOT_NULL(n);
        *n = engine->engine->param_count();
        return ok();
    });
}

ds_status ds_param_name(const ds_engine* e, size_t i, const char** name) {
    return guard([&]() -> Status {
        DS_NOT_NULL(name);
        *name = nullptr;
        DS_USE_FREELY(const auto engine, e);
        const size_t n = engine->engine->param_count();
        DS_REQUIRE(i < n, "i must be below {}, the number of parameters, but is {}", n, i);
        *name = engine->engine->param(i).name.c_str();
        return ok();
    });
}

ds_status ds_param_info(const ds_engine* e, const char* name, int32_t* ndim, const int64_t** shape, int32_t* trainable) {
    return guard([&]() -> Status {
        static constexpr int64_t kNoDims = 0;
        if (shape) *shape = nullptr;
        DS_USE_FREELY(const auto engine, e);
        DS_TRY(const Engine::ParamInfo* info, find_param(*engine->engine, name));
        if (ndim) *ndim = static_cast<int32_t>(info->shape.size());
        if (shape) *shape = info->shape.empty() ? &kNoDims : info->shape.data();
        if (trainable) *trainable = info->trainable;
        return ok();
    });
}

ds_status ds_param_get(ds_engine* e, const char* name, int32_t what, ds_tensor** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        DS_USE(const auto engine, e);
        DS_CHECK(check_what(what));
        DS_TRY(const Engine::ParamInfo* info, find_param(*engine->engine, name));
        DS_TRY(HostTensor tensor, engine->engine->param_get(info->name, what));
        *out = new_tensor(std::move(tensor));
        return ok();
    });
}

ds_status ds_param_set(ds_engine* e, const char* name, int32_t what, const ds_tensor* t) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        DS_CHECK(check_what(what));
        DS_TRY(const Engine::ParamInfo* info, find_param(*engine->engine, name));
        DS_TRY(const HostTensor tensor, tensor_of(t));
        DS_REQUIRE(tensor.shape == info->shape, "parameter {} has the shape {}, but the tensor has {}", info->name, info->shape,
                   tensor.shape);
        return engine->engine->param_set(info->name, what, tensor);
    });
}

ds_status ds_save(ds_engine* e, const char* dir, const char* tag, const char* options_json) {
    return on_folder(e, dir, tag, options_json, [](Engine& engine, const std::string& folder, auto name, std::string_view options) {
        return engine.save(folder, name, options);
    });
}

ds_status ds_load(ds_engine* e, const char* dir, const char* tag, const char* options_json) {
    return on_folder(e, dir, tag, options_json, [](Engine& engine, const std::string& folder, auto name, std::string_view options) {
        return engine.load(folder, name, options);
    });
}

ds_status ds_report(ds_engine* e, const char* path, const char* contents_json) {
    return guard([&]() -> Status {
        DS_USE(const auto engine, e);
        DS_TRY(const std::string file, text_argument(path, "path"));
        DS_REQUIRE(!file.empty(), "path must not be empty");
        DS_CHECK(json_argument(contents_json, "contents_json").status());
        return engine->engine->report(file, contents_json ? contents_json : "");
    });
}

ds_status ds_export(ds_engine* e, const char* dir, const char* options_json) {
    return on_folder(e, dir, nullptr, options_json, [](Engine& engine, const std::string& folder, auto, std::string_view options) {
        return engine.export_folder(folder, options);
    });
}
