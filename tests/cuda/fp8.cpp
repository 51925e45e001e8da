// fp8 through the public ABI: a model trains in 8-bit floats as it does in bf16, within what so few bits allow; where there are none, that
// is told.
#include <doctest/doctest.h>
#include <dsrt/dsrt.h>

#include <dlfcn.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace {

template <class F>
F* control(const char* name) {
    void* library = dlopen((std::string(std::getenv("DSRT_BACKEND_PATH")) + "/libdsrt_cuda.so").c_str(), RTLD_NOW);
    return library ? reinterpret_cast<F*>(dlsym(library, name)) : nullptr;
}

std::string config(const char* device, const std::string& more) {
    return std::string(
               R"({"model": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 24, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16}, "model_init": "random", "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2,
        "logger": {"default_verbosity": "ERROR"}, "threads": 1, "bf16": {"enabled": true}, "optimizer": {"type": "AdamW", "params": {"lr": 0.005}}, "device": ")") +
           device + "\"" + more + "}";
}

struct Trained {
    std::string failure;
    std::vector<float> losses;
};

Trained train(const std::string& text, int micro_batches) {
    Trained out;
    const auto good = [&](ds_status s) {
        if (s < 0 && out.failure.empty()) out.failure = std::string(ds_status_name(s)) + ": " + ds_last_error();
        return s >= 0;
    };
    ds_batch* b = nullptr;
    REQUIRE(ds_batch_create(&b) == DS_OK);
    const int64_t shape[2] = {4, 7};  // 28 tokens: what gradients of weights contract is filled up to 32
    int32_t ids[28];
    for (int i = 0; i < 28; ++i) ids[i] = (i * 7 + i / 5) % 24;
    for (const char* name : {"input_ids", "labels"}) {
        ds_tensor* t = nullptr;
        REQUIRE(ds_tensor_create(DS_I32, 2, shape, ids, sizeof ids, &t) == DS_OK);
        REQUIRE(ds_batch_set(b, name, t) == DS_OK);
        ds_tensor_destroy(t);
    }
    ds_engine* e = nullptr;
    bool going = good(ds_engine_create(text.c_str(), nullptr, &e));
    for (int i = 0; i < micro_batches && going; ++i) {
        float loss = 0;
        going = good(ds_forward(e, b, &loss)) && good(ds_backward(e)) && good(ds_step(e));
        out.losses.push_back(loss);
    }
    ds_engine_destroy(e);
    ds_batch_destroy(b);
    return out;
}

const std::string kOn = R"(, "fp8": {"enabled": true})";

}  // namespace

TEST_CASE("fp8/trains_as_bf16_does_within_its_bits") {
    constexpr int kMicro = 12;
    const Trained eight = train(config("cuda", kOn), kMicro), sixteen = train(config("cuda", ""), kMicro);
    const Trained none = train(config("cuda", R"(, "fp8": {"enabled": true, "filter_fqns": ["*_proj", "lm_head"]})"), 3),
                  again = train(config("cuda", kOn), 3);
    REQUIRE(eight.failure == "");
    REQUIRE(sixteen.failure == "");
    REQUIRE(none.failure == "");
    REQUIRE(again.failure == "");
    CHECK(none.losses == std::vector<float>(sixteen.losses.begin(), sixteen.losses.begin() + 3));  // all layers were left out
    CHECK(again.losses == std::vector<float>(eight.losses.begin(), eight.losses.begin() + 3));     // bit for bit
    CHECK(eight.losses != sixteen.losses);
    CHECK(sixteen.losses.back() < 0.9f * sixteen.losses.front());
    for (size_t i = 0; i < eight.losses.size(); ++i) CHECK(eight.losses[i] == doctest::Approx(sixteen.losses[i]).epsilon(0.05));
    if (auto* fault = control<const char*()>("emu_first_fault")) CHECK(std::string(fault()) == "");
}

TEST_CASE("fp8/is_refused_where_it_can_not_be") {
    const std::string here = train(config("cpu", kOn), 1).failure;
    CHECK_MESSAGE(here ==
                      "DS_E_UNSUPPORTED: config: fp8.enabled needs a GPU of compute capability 8.9 or above (Ada, Hopper, Blackwell); rank "
                      "0 computes on the CPU",
                  here);
    const std::string unknown = train(config("cuda", R"(, "fp8": {"enabled": true, "filter_fqns": ["nowhere"]})"), 1).failure;
    CHECK_MESSAGE(unknown == "DS_E_CONFIG: config: fp8.filter_fqns: no linear module of the model is called nowhere", unknown);
    auto* set = control<void(int)>("emu_set_architecture");
    if (!set) return static_cast<void>(std::puts("SKIPPED an older GPU: this one is real"));
    set(80);
    const std::string old = train(config("cuda", kOn), 1).failure;
    CHECK_MESSAGE(
        old.find(
            "DS_E_UNSUPPORTED: config: fp8.enabled needs a GPU of compute capability 8.9 or above (Ada, Hopper, Blackwell); cuda:0 (") == 0,
        old);
    CHECK_MESSAGE(old.find(" has 8.0") != std::string::npos, old);
    CHECK(train(config("cuda", ""), 1).failure == "");
    set(90);
}
