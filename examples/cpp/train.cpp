// Trains the model of examples/first/config.json, keeps a checkpoint, and lets the model write. Run it from the root of the repository:
//     c++ -std=c++17 examples/cpp/train.cpp $(pkg-config --cflags --libs dsrt) -o train && ./train FOLDER STEPS [--resume]
// STEPS counts from the beginning of training, across runs. The last column is the loss again, bit by bit: all languages print the same.
#include <dsrt/dsrt.hpp>

#include <cstdio>
#include <regex>

static void train(const std::string& folder, double steps, bool resume) {
    dsrt::Engine engine("examples/first/config.json");
    dsrt::Data data(engine);
    if (resume) {
        engine.load(folder);
        std::printf("resumed at step %.0f\n", engine.metric("global_steps"));
    }
    while (engine.metric("global_steps") < steps) {
        float loss;
        if (engine.train_batch(data, &loss) == dsrt::Outcome::end) continue;  // the next call begins the next epoch
        uint32_t bits;
        std::memcpy(&bits, &loss, sizeof bits);
        std::printf("step %.0f  loss %.4f  %08x\n", engine.metric("global_steps"), loss, bits);
    }
    engine.save(folder);

    const dsrt::Tokenizer tokenizer("examples/pretrain/tokenizer.json");
    const auto ids = engine.generate(tokenizer.encode("'Twas ").ids, R"({"max_new_tokens": 60, "temperature": 0})");
    std::printf("writes: %s\n", std::regex_replace(tokenizer.decode(ids), std::regex("\n"), " / ").c_str());
}

int main(int argc, char** argv) try {
    if (argc < 3) return std::fprintf(stderr, "usage: train FOLDER STEPS [--resume]\n"), 2;
    train(argv[1], std::atof(argv[2]), argc > 3);
} catch (const dsrt::Error& e) {
    std::fprintf(stderr, "%s: %s\n", e.name(), e.what());
    return 1;
}
