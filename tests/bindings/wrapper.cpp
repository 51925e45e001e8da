// What dsrt.hpp adds to the C calls: what each kind of callback throws comes out of the call that ran it, and generation from text to text.
#include <cstdio>
#include <cstdlib>
#include <dsrt/dsrt.hpp>

using namespace dsrt;

namespace {

int passed = 0, failed = 0;

void check(bool right, const char* what) {
    if (right) ++passed;
    else std::printf("FAILED wrapper: %s\n", what), ++failed;
}

struct Mine {  // not a std::exception: it must come back as it is
    int number;
};

template <class F>
int thrown(F&& f) {
    try {
        f();
    } catch (const Mine& m) { return m.number; } catch (const std::exception& e) {
        std::printf("%s\n", e.what());
        return -1;
    }
    return 0;
}

const std::string model =
    R"({"model": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 11, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2},
        "threads": 1, "train_micro_batch_size_per_gpu": 1, "optimizer": {"type": "SGD", "params": {"lr": 0.1}}})";

Batch batch() {
    const std::vector<int64_t> ids{1, 2, 3, 4};
    Batch b;
    b.set("input_ids", {1, 4}, ids).set("labels", {1, 4}, ids);
    return b;
}

void callbacks_throw() {
    Engine engine(model);
    DataFunctions source;
    source.next = [](Batch&) -> bool { throw Mine{1}; };
    Data data(source, &engine);
    check(thrown([&] { engine.train_batch(data); }) == 1, "a data source's exception");
    check(thrown([&] { engine.generate(std::vector<int32_t>{1}, {}, [](Span<int32_t>) -> bool { throw Mine{2}; }); }) == 2,
          "a token stream's exception");
    check(thrown([&] {
              engine.generate_batch({{1}, {2}}, {}, [](size_t row, Span<int32_t>) -> bool { throw Mine{static_cast<int>(row) + 3}; });
          }) >= 3,
          "a token stream's exception, of rows");
    Options options;
    options.optimizer(0, [](const char*, int64_t, double, float*, const float*, float*, size_t) { throw Mine{5}; });
    Engine own(model, &options);
    own.forward(batch());
    own.backward();
    check(thrown([&] { own.step(); }) == 5, "an optimizer's exception");
    check(engine.forward(batch()) > 0, "the engine lives on");
}

void the_log_throws() {
    int lines = 0;
    set_log([&](LogLevel, const char*, const char*) { throw Mine{++lines > 0 ? 6 : 0}; }, LogLevel::trace);
    check(thrown([] { Engine made(model); }) == 6, "the log's exception comes out of the call that logged");
    set_log({}, LogLevel::warn);
    check(thrown([] { Engine made(model); }) == 0, "and of no other call");
    const int before = lines;
    { Engine made(model); }
    check(lines == before, "the default sink is back");
}

template <class F>
void refuses(F&& f, ds_status code, const std::string& words, const char* what) {
    try {
        f();
        check(false, what);
    } catch (const Error& e) {
        check(e.code() == code && std::string(e.what()).find(words) != std::string::npos, what);
        if (e.code() != code || std::string(e.what()).find(words) == std::string::npos) std::printf("  it says: %s\n", e.what());
    }
}

void what_c_would_misread_is_refused() {
    using namespace std::string_literals;
    const char* nul = "holds a NUL at byte 1";
    Engine engine(model);
    Batch b = batch();
    refuses([&] { engine.save("d\0r"s); }, DS_E_INVALID_ARGUMENT, nul, "a path with a NUL");
    refuses([&] { b["a\0b"s]; }, DS_E_INVALID_ARGUMENT, nul, "a name with a NUL");
    const char* data = std::getenv("DSRT_TEST_DATA");
    const Tokenizer tokenizer(std::string(data ? data : "tests/data") + "/languages");
    refuses([&] { tokenizer.encode_batch({"a", "b\0b"s}); }, DS_E_INVALID_ARGUMENT, "texts[1] holds a NUL at byte 1", "a text with a NUL");
    refuses([&] { b.set("x", {2}, std::vector<float>{}); }, DS_E_INVALID_ARGUMENT, "a tensor f32[2] has 8 bytes, but bytes is 0",
            "no values");
    check(Tensor::of({0}, std::vector<float>{}).count() == 0, "none where none are wanted");
}

void closed_objects_say_so() {
    Engine engine(model);
    engine.close();
    refuses([&] { engine.step(); }, DS_E_STATE, "this engine is closed", "a closed engine");
    Batch b = batch();
    const Batch moved = std::move(b);
    refuses([&] { (void)b["labels"]; }, DS_E_STATE, "this batch is closed", "a batch that was moved away");
}

void a_source_fills_its_batch() {
    DataFunctions source;
    source.next = [](Batch& b) { return b = batch(), true; };
    Data data(source);
    Batch b;
    refuses([&] { data.next(b); }, DS_E_INVALID_ARGUMENT, "replaced its batch", "a source that replaces its batch");
}

void text_goes_to_text() {
    const char* data = std::getenv("DSRT_TEST_DATA");
    const Tokenizer tokenizer(std::string(data ? data : "tests/data") + "/languages");
    Engine engine(model);
    const std::string six = R"({"max_new_tokens": 6})";
    std::string pieces;
    const std::string made =
        engine.generate_text(tokenizer, "a", six, [&](const std::string& piece) { return pieces += piece, !piece.empty(); });
    check(made == pieces && made == tokenizer.decode(engine.generate(std::vector<int32_t>{0}, six)),
          "pieces make the text that decode makes");
    int calls = 0;
    engine.generate_text(tokenizer, "a", six, [&](const std::string&) { return ++calls > 1; });
    check(calls == 1, "false stops");
    check(thrown([&] { engine.generate_text(tokenizer, "a", six, [](const std::string&) -> bool { throw Mine{7}; }); }) == 7,
          "a text stream's exception");
    TextStream stream(tokenizer);
    check(stream.put(std::vector<int32_t>{0, 2}) == "a" && stream.put(std::vector<int32_t>{3}) == "\xC3\xA9", "half a character waits");
    check(tokenizer.apply_chat_template(R"([{"role": "user", "content": "x"}])", R"({"add_generation_prompt": true})") ==
              "<user>x<assistant>",
          "a conversation becomes text");
}

}  // namespace

int main() {
    callbacks_throw();
    the_log_throws();
    text_goes_to_text();
    what_c_would_misread_is_refused();
    closed_objects_say_so();
    a_source_fills_its_batch();
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
