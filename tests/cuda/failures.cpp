// Every call of the CUDA runtime and of cuBLASLt made to fail, one by one, in a training of three steps through the public ABI: each time a
// call of the ABI says so, the process lives, a new engine works, and nothing is left allocated. And what a host is told whose plug-in
// can't be used.
#include <doctest/doctest.h>
#include <dsrt/dsrt.h>

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

template <class F>
F* control(const char* name) {
    void* library = dlopen((std::string(std::getenv("DSRT_BACKEND_PATH")) + "/libdsrt_cuda.so").c_str(), RTLD_NOW | RTLD_NOLOAD);
    REQUIRE(library != nullptr);
    auto* f = reinterpret_cast<F*>(dlsym(library, name));
    REQUIRE((f != nullptr));
    return f;
}

std::string config(const char* device, const char* optimizer = "AdamW", const char* more = "") {
    return std::string(
               R"({"model": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 12, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16}, "model_init": "random", "train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": true},
        "optimizer": {"type": ")") +
           optimizer + R"(", "params": {"lr": 0.01}}, "device": ")" + device + "\"" + more + "}";
}

ds_batch* batch() {
    ds_batch* b = nullptr;
    REQUIRE(ds_batch_create(&b) == DS_OK);
    const int64_t shape[2] = {2, 6};
    const int32_t ids[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0};
    for (const char* name : {"input_ids", "labels"}) {
        ds_tensor* t = nullptr;
        REQUIRE(ds_tensor_create(DS_I32, 2, shape, ids, sizeof ids, &t) == DS_OK);
        REQUIRE(ds_batch_set(b, name, t) == DS_OK);
        ds_tensor_destroy(t);
    }
    return b;
}

// OK, or what failed. losses: of each step.
std::string train(const std::string& text, std::vector<float>* losses = nullptr) {
    ds_engine* e = nullptr;
    ds_batch* b = batch();
    std::string failure;
    const auto good = [&](ds_status s) {
        if (s >= 0) return true;
        failure = std::string(ds_status_name(s)) + ": " + ds_last_error();
        return false;
    };
    bool going = good(ds_engine_create(text.c_str(), nullptr, &e));
    for (int step = 0; step < 3 && going; ++step) {
        float loss = 0;
        going = good(ds_forward(e, b, &loss)) && good(ds_backward(e)) && good(ds_step(e));
        if (losses) losses->push_back(loss);
    }
    ds_tensor* t = nullptr;
    if (going && good(ds_param_get(e, "lm_head.weight", DS_WEIGHT, &t))) ds_tensor_destroy(t);
    ds_engine_destroy(e);
    ds_batch_destroy(b);
    return failure;
}

struct Folder {
    std::filesystem::path path = std::filesystem::temp_directory_path() / ("dsrt_cuda_" + std::to_string(getpid()));
    std::string before = std::getenv("DSRT_BACKEND_PATH");
    Folder() {
        std::filesystem::create_directories(path);
        setenv("DSRT_BACKEND_PATH", path.c_str(), 1);
    }
    ~Folder() {
        std::filesystem::remove_all(path);
        setenv("DSRT_BACKEND_PATH", before.c_str(), 1);
    }
};

}  // namespace

// First: a plug-in that was loaded stays loaded.
TEST_CASE("cuda/a_plug_in_that_can_not_be_used_is_told_and_auto_goes_on") {
    {
        Folder none;
        if (!std::filesystem::exists(DSRT_LIBRARY_FOLDER
                                     "/libdsrt_cuda.so")) {  // else the real one, beside libdsrt, would be found and stay
            const std::string missing = train(config("cuda"));
            INFO(missing);
            CHECK(missing.find("DS_E_UNSUPPORTED: device: cuda: libdsrt_cuda.so is not in ") == 0);
            CHECK(missing.find(none.path.string()) != std::string::npos);
        }
        std::ofstream(none.path / "libdsrt_cuda.so") << "no library";
        const std::string broken = train(config("cuda"));
        INFO(broken);
        CHECK(broken.find("DS_E_UNSUPPORTED: device: cuda: " + none.path.string() + "/libdsrt_cuda.so: cannot be loaded: ") == 0);
        CHECK(train(config("auto")) == "");
        CHECK(train(config("cpu")) == "");
    }
    setenv("DSRT_BACKEND_PATH", "relative", 1);
    CHECK(train(config("cuda")).find("must be an absolute path") != std::string::npos);
    setenv("DSRT_BACKEND_PATH", DSRT_EMULATED_FOLDER, 1);
}

TEST_CASE("cuda/the_double_trains_as_the_cpu_does") {
    std::vector<float> there, here, other;
    CHECK(train(config("cuda"), &there) == "");
    CHECK(train(config("cpu"), &here) == "");
    REQUIRE(there.size() == 3);
    for (size_t i = 0; i < 3; ++i) CHECK(there[i] == doctest::Approx(here[i]).epsilon(2e-3));
    // An optimizer that sees whole parameters works on the host.
    there.clear(), here.clear();
    CHECK(train(config("cuda", "Lamb"), &there) == "");
    CHECK(train(config("cpu", "Lamb"), &here) == "");
    for (size_t i = 0; i < 3; ++i) CHECK(there[i] == doctest::Approx(here[i]).epsilon(2e-3));
    CHECK(control<size_t()>("emu_live_allocations")() == 0);
    CHECK(control<int64_t()>("emu_launches")() > 100);
}

TEST_CASE("cuda/the_double_trains_on_weights_in_few_bits_as_the_cpu_does") {
    for (const char* bits :
         {R"("load_in_4bit": true, "bnb_4bit_use_double_quant": true)", R"("load_in_8bit": true)", R"("load_in_16bit": true)"}) {
        const std::string more = std::string(R"(, "lora": {"r": 2, "target_modules": "all-linear"}, "quantization": {)") + bits + "}";
        std::vector<float> there, here, whole;
        CHECK(train(config("cuda", "AdamW", more.c_str()), &there) == "");
        CHECK(train(config("cpu", "AdamW", more.c_str()), &here) == "");
        CHECK(train(config("cpu", "AdamW", R"(, "lora": {"r": 2, "target_modules": "all-linear"})"), &whole) == "");
        REQUIRE(there.size() == 3);
        for (size_t i = 0; i < 3; ++i) CHECK(there[i] == doctest::Approx(here[i]).epsilon(2e-3));
        CHECK(here != whole);
    }
    CHECK(control<size_t()>("emu_live_allocations")() == 0);
    CHECK(std::string(control<const char*()>("emu_first_fault")()) == "");
}

TEST_CASE("cuda/every_call_that_fails_is_told") {
    auto* fail_at = control<void(int64_t)>("emu_fail_at");
    auto* calls = control<int64_t()>("emu_calls");
    auto* failed_call = control<const char*()>("emu_failed_call");
    auto* live = control<size_t()>("emu_live_allocations");
    auto* fault = control<const char*()>("emu_first_fault");
    fail_at(0);
    REQUIRE(train(config("cuda")) == "");
    const int64_t all = calls();
    const bool every = std::getenv("DSRT_FULL") && std::string(std::getenv("DSRT_FULL")) == "1";
    MESSAGE(all << " calls; " << std::string(every ? "each fails once" : "the first 64 and every 11th fail once (DSRT_FULL=1: each)"));
    for (int64_t n = 1; n <= all; n += every || n < 64 ? 1 : 11) {
        fail_at(n);
        const std::string failure = train(config("cuda"));
        const std::string call = failed_call();
        INFO("call " << n << " of " << all << ", " << call << ": " << failure);
        REQUIRE(!call.empty());
        // What ends an engine is not told: nobody could do anything. Everything before is.
        const bool ends = n > all - 16;
        CHECK((!failure.empty() || ends));
        if (!failure.empty()) {
            const bool coded = (failure.find("DS_E_DEVICE: ") == 0 || failure.find("DS_E_OUT_OF_MEMORY: ") == 0) &&
                               failure.find("cuda: ") != std::string::npos;
            CHECK(coded);
        }
        CHECK(live() == 0);
        CHECK(std::string(fault()) == "");
    }
    fail_at(0);
    CHECK(train(config("cuda")) == "");
}
