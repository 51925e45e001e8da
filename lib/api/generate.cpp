// ds_generate: text from a trained model, token by token.
#include <cstdlib>
#include <cstring>

#include "api/engine.h"
#include "api/host.h"
#include "dsrt/engine.h"

using namespace ds;
using namespace ds::api;

ds_status ds_generate(ds_engine* e, const int32_t* prompt, size_t n, const char* options_json, ds_token_fn on_token, void* user, int32_t** ids,
                      size_t* n_ids) {
    return guard([&]() -> Status {
        DS_NOT_NULL(ids);
        *ids = nullptr;
        DS_NOT_NULL(n_ids);
        *n_ids = 0;
        DS_USE(const auto engine, e);
        DS_REQUIRE(prompt || n == 0, "prompt must not be NULL where n is {}", n);
        DS_CHECK(json_argument(options_json, "options_json").status());
        int failed = 0;
        std::function<int(std::span<const int32_t>)> hear;
        if (on_token) hear = [&](std::span<const int32_t> part) {
            const int32_t code = on_token(part.data(), part.size(), user);
            if (code < 0) failed = code;
            return code;
        };
        const auto result = engine->engine->generate({prompt, n}, options_json ? options_json : "", hear);
        if (failed) return from_callback(failed, "token callback");
        DS_CHECK(result.status());
        const std::vector<int32_t>& made = result.value();
        auto* copy = static_cast<int32_t*>(std::malloc(std::max<size_t>(made.size(), 1) * sizeof(int32_t)));
        if (!copy) return Status(Code::E_OUT_OF_MEMORY);
        if (!made.empty()) std::memcpy(copy, made.data(), made.size() * sizeof(int32_t));
        *ids = copy;
        *n_ids = made.size();
        return ok();
    });
}
