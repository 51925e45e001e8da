// A model in training, and data that belongs to one.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_CPP_ENGINE_HPP
#define DSRT_CPP_ENGINE_HPP

#include <dsrt/cpp/data.hpp>
#include <dsrt/cpp/options.hpp>
#include <dsrt/cpp/tokenizer.hpp>

namespace dsrt {

struct ParamInfo {
    std::string name;
    Shape shape;
    bool trainable;
};

using TokenFunction = std::function<bool(Span<int32_t> ids)>;  // false stops
using RowTokensFunction = std::function<bool(size_t row, Span<int32_t> ids)>;
using TextFunction = std::function<bool(const std::string& piece)>;

class Engine {
public:
    // config: JSON text or the path of a file; none: what DSRT_CONFIG or DEEPSPEED_CONFIG holds.
    explicit Engine(const std::optional<std::string>& config, const Options* options = nullptr) : handle_(make(config, options)) {}
    static std::string plan(const std::optional<std::string>& config, const Options* options = nullptr) {
        return detail::text_of(
            [&](char** out, size_t*) { return ds_plan(detail::or_null(config), options ? options->get() : nullptr, out); });
    }

    float forward(const Batch& b) {
        float loss = 0;
        detail::check(ds_forward(get(), b.get(), &loss));
        return loss;
    }
    void forward_only(const Batch& b) { detail::check(ds_forward(get(), b.get(), nullptr)); }  // doesn't wait for the loss
    void backward() { detail::check(ds_backward(get())); }
    void backward_from(const Batch& gradients) { detail::check(ds_backward_from(get(), gradients.get())); }
    Outcome step() { return detail::check(ds_step(get())); }
    void zero_grad() { detail::check(ds_zero_grad(get())); }
    Outcome train_batch(Data& data, float* loss = nullptr) { return detail::check(ds_train_batch(get(), data.get(), loss)); }
    float eval(const Batch& b) {
        float loss = 0;
        detail::check(ds_eval(get(), b.get(), &loss));
        return loss;
    }
    void eval_only(const Batch& b) { detail::check(ds_eval(get(), b.get(), nullptr)); }

    void set(const std::string& key, const std::string& json) {
        detail::check(ds_engine_set(get(), detail::c_text(key), detail::c_text(json)));
    }
    std::string get(const std::string& key) const {
        return detail::text_of([&](char** out, size_t*) { return ds_engine_get(get(), detail::c_text(key), out); });
    }
    Tensor output(const std::string& name) {
        return Tensor(detail::TensorHandle::made([&](auto out) { return ds_output(get(), detail::c_text(name), out); }));
    }
    double metric(const std::string& name) const {
        double value = 0;
        detail::check(ds_metric(get(), detail::c_text(name), &value));
        return value;
    }

    std::vector<ParamInfo> params() const {
        size_t n = 0;
        detail::check(ds_param_count(get(), &n));
        std::vector<ParamInfo> all;
        for (size_t i = 0; i < n; ++i) {
            const char* name = nullptr;
            int32_t ndim = 0, trainable = 0;
            const int64_t* shape = nullptr;
            detail::check(ds_param_name(get(), i, &name));
            detail::check(ds_param_info(get(), name, &ndim, &shape, &trainable));
            all.push_back({name, Shape(shape, shape + ndim), trainable != 0});
        }
        return all;
    }
    Tensor param(const std::string& name, What what = What::weight) {
        return Tensor(detail::TensorHandle::made(
            [&](auto out) { return ds_param_get(get(), detail::c_text(name), static_cast<int32_t>(what), out); }));
    }
    void set_param(const std::string& name, const Tensor& t, What what = What::weight) {
        detail::check(ds_param_set(get(), detail::c_text(name), static_cast<int32_t>(what), t.get()));
    }

    void save(const std::string& dir, const std::optional<std::string>& tag = {}, const std::optional<std::string>& options_json = {}) {
        detail::check(ds_save(get(), detail::c_text(dir), detail::or_null(tag), detail::or_null(options_json)));
    }
    void load(const std::string& dir, const std::optional<std::string>& tag = {}, const std::optional<std::string>& options_json = {}) {
        detail::check(ds_load(get(), detail::c_text(dir), detail::or_null(tag), detail::or_null(options_json)));
    }
    void export_folder(const std::string& dir, const std::optional<std::string>& options_json = {}) {
        detail::check(ds_export(get(), detail::c_text(dir), detail::or_null(options_json)));
    }
    void report(const std::string& path, const std::optional<std::string>& contents_json = {}) {
        detail::check(ds_report(get(), detail::c_text(path), detail::or_null(contents_json)));
    }
    // The scores of the task, as JSON; data_json absent: what the config's split keeps from training.
    std::string evaluate(const std::optional<std::string>& data_json = {}, const std::optional<std::string>& options_json = {}) {
        return detail::text_of(
            [&](char** out, size_t*) { return ds_evaluate(get(), detail::or_null(data_json), detail::or_null(options_json), out); });
    }
    std::vector<int32_t> generate(Span<int32_t> prompt, const std::optional<std::string>& options_json = {}, TokenFunction on_token = {}) {
        const ds_token_fn fn = [](const int32_t* ids, size_t n, void* user) -> int32_t {
            return detail::call([&] { return (*static_cast<TokenFunction*>(user))(Span<int32_t>(ids, n)) ? 0 : 1; });
        };
        int32_t* ids = nullptr;
        size_t n = 0;
        const ds_status status =
            ds_generate(get(), prompt.data(), prompt.size(), detail::or_null(options_json), on_token ? fn : nullptr, &on_token, &ids, &n);
        const std::unique_ptr<int32_t, void (*)(void*)> owned(ids, ds_free);
        detail::check(status);
        return std::vector<int32_t>(ids, ids + n);
    }
    // From text to text: the prompt is encoded with the tokenizer's special tokens, or without (a chat template's text has them already).
    // on_text hears of the new text as it becomes certain, in pieces of whole UTF-8; false stops.
    std::string generate_text(const Tokenizer& tokenizer, const std::string& prompt, const std::optional<std::string>& options_json = {},
                              const TextFunction& on_text = {}, bool add_special_tokens = true) {
        TextStream stream(tokenizer);
        std::string all;
        bool on = true;
        const auto heard = [&](const std::string& piece) {
            all += piece;
            if (on && on_text && !piece.empty()) on = on_text(piece);
            return on;
        };
        generate(tokenizer.encode(prompt, {}, add_special_tokens).ids, options_json,
                 [&](Span<int32_t> ids) { return heard(stream.put(ids)); });
        heard(stream.end());
        return all;
    }
    // Of several prompts at once, the new ids of each. on_tokens: false ends that row.
    std::vector<std::vector<int32_t>> generate_batch(const std::vector<std::vector<int32_t>>& prompts,
                                                     const std::optional<std::string>& options_json = {},
                                                     RowTokensFunction on_tokens = {}) {
        const ds_row_tokens_fn fn = [](size_t row, const int32_t* ids, size_t n, void* user) -> int32_t {
            return detail::call([&] { return (*static_cast<RowTokensFunction*>(user))(row, Span<int32_t>(ids, n)) ? 0 : 1; });
        };
        std::vector<int32_t> all;
        std::vector<size_t> lengths;
        for (const auto& prompt : prompts) {
            all.insert(all.end(), prompt.begin(), prompt.end());
            lengths.push_back(prompt.size());
        }
        all.push_back(0);  // so that there is memory even without any id
        int32_t* ids = nullptr;
        size_t* counts = nullptr;
        const ds_status status = ds_generate_batch(get(), all.data(), lengths.data(), lengths.size(), detail::or_null(options_json),
                                                   on_tokens ? fn : nullptr, &on_tokens, &ids, &counts);
        const std::unique_ptr<int32_t, void (*)(void*)> owned(ids, ds_free);
        const std::unique_ptr<size_t, void (*)(void*)> owned_counts(counts, ds_free);
        detail::check(status);
        std::vector<std::vector<int32_t>> rows;
        for (size_t r = 0; r < prompts.size(); ids += counts[r++]) rows.emplace_back(ids, ids + counts[r]);
        return rows;
    }
    ds_engine* get() const { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_engine* make(const std::optional<std::string>& config, const Options* options) {
        return detail::EngineHandle::made(
            [&](auto out) { return ds_engine_create(detail::or_null(config), options ? options->get() : nullptr, out); });
    }
    detail::EngineHandle handle_;
};

inline ds_data* Data::open(const char* options_json, const Engine* engine) {
    return detail::DataHandle::made([&](auto out) { return ds_data_open(options_json, engine ? engine->get() : nullptr, out); });
}

inline ds_data* Data::wrap(DataFunctions functions, const Engine* engine) {
    auto user = std::make_unique<DataFunctions>(std::move(functions));
    ds_data_source source{};
    source.struct_size = sizeof(source);
    source.user = user.get();
    source.next = [](void* u, ds_batch* filled) -> int32_t {
        Batch batch(filled);
        const int32_t code = detail::call([&]() -> int32_t {
            const bool more = static_cast<DataFunctions*>(u)->next(batch);
            if (!batch.holds(filled))
                throw Error(DS_E_INVALID_ARGUMENT, "a source's next() replaced its batch or closed it: put tensors into it by set()");
            return more ? DS_OK : DS_END;
        });
        if (batch.holds(filled)) (void)batch.release();  // the library's
        return code;
    };
    if (user->save)
        source.save = [](void* u, char** json) -> int32_t {
            return detail::call([&]() -> int32_t {
                *json = ::strdup(detail::c_text(static_cast<DataFunctions*>(u)->save()));
                return *json ? DS_OK : DS_E_OUT_OF_MEMORY;
            });
        };
    if (user->restore)
        source.restore = [](void* u, const char* json) -> int32_t {
            return detail::call([&]() -> int32_t {
                static_cast<DataFunctions*>(u)->restore(json);
                return DS_OK;
            });
        };
    source.release = detail::release<DataFunctions>;
    return detail::DataHandle::made([&](auto out) {
        const ds_status status = ds_data_create(&source, engine ? engine->get() : nullptr, out);
        if (status >= 0) (void)user.release();  // the data's
        return status;
    });
}

}  // namespace dsrt

#endif  // DSRT_CPP_ENGINE_HPP
