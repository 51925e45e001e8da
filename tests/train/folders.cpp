// Folders as other tools and versions write them: tensors under their older or other names, tied ones twice or under another name,
// config.json in the spellings of transformers 4 and 5, fields that are absent. Answers are those of the golden models, or of the same
// model spelled in full.
#include <dsrt/dsrt.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "support/golden_batch.h"

namespace {

using ds::Json;
using training::check, training::Folder, training::GoldenBatch, training::must, training::Numbers;

const std::string kModels = std::string(DSRT_TEST_DATA) + "/models/";

Json config_of(const std::string& golden) { return *ds::parse_json(*ds::read_file(kModels + golden + "/config.json"), golden); }

// A golden model's folder with its tensors renamed: `called` gives the names under which one is written.
void write(const std::string& folder, const std::string& golden, const Json& config,
           const std::function<std::vector<std::string>(const std::string&)>& called) {
    const auto file = ds::SafetensorsFile::open(kModels + golden + "/model.safetensors");
    std::vector<ds::NamedTensor> tensors;
    for (const ds::TensorView& view : file->tensors())
        for (const std::string& name : called(view.name)) tensors.push_back({name, view.dtype, view.shape, view.data.data(), {}});
    check(ds::write_safetensors(folder + "/model.safetensors", tensors).ok(), "weights of " + folder);
    check(ds::write_file_atomically(folder + "/config.json", config.dump()).ok(), "config of " + folder);
}

Json engine_config(const Json& model) {
    return {{"model", model}, {"threads", 1}, {"outputs", {"logits"}}, {"logger", {{"default_verbosity", "ERROR"}}}};
}

double loss_of(const Json& model, const GoldenBatch& batch, Json more = Json::object()) {
    Json config = engine_config(model);
    config.update(more);
    const training::Engine engine(config);
    float loss = 0;
    must(ds_eval(engine.e, batch.b, &loss), "eval");
    return loss;
}

// What is said of a model, or of a batch where the model is taken.
std::string refusal(const Json& model, ds_status code, const GoldenBatch* batch = nullptr) {
    ds_engine* e = nullptr;
    ds_status status = ds_engine_create(engine_config(model).dump().c_str(), nullptr, &e);
    float loss = 0;
    if (status >= 0 && batch) status = ds_eval(e, batch->b, &loss);
    ds_engine_destroy(e);
    return status == code ? ds_last_error() : std::string("answered ") + ds_status_name(status);
}
void refused(const Json& model, ds_status code, const std::vector<std::string>& words, const GoldenBatch* batch = nullptr) {
    const std::string said = refusal(model, code, batch);
    for (const std::string& word : words) check(said.find(word) != std::string::npos, "a refusal names " + word + ": " + said);
}

void same(double found, double exact, const std::string& what) {
    check(found == exact, what + ": loss " + std::to_string(found) + ", not " + std::to_string(exact));
}

std::string replaced(std::string name, const std::string& from, const std::string& to) {
    if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
    return name;
}

void older_names() {
    const GoldenBatch batch("bert-ner");
    const Folder folder;
    write(folder.path.string(), "bert-ner", config_of("bert-ner"), [](const std::string& name) -> std::vector<std::string> {
        return {replaced(replaced(replaced(name, "bert.", ""), "LayerNorm.weight", "LayerNorm.gamma"), "LayerNorm.bias", "LayerNorm.beta")};
    });
    same(loss_of(folder.path.string(), batch), loss_of(kModels + "bert-ner", batch), "gamma and beta, no prefix");
}

void tied_names() {
    const std::string golden = "llama-tied-rope-scaled", table = "model.embed_tokens.weight", head = "lm_head.weight";
    const GoldenBatch batch(golden);
    const double exact = loss_of(kModels + golden, batch);
    const Folder folder;
    write(folder.path.string(), golden, config_of(golden), [&](const std::string& name) -> std::vector<std::string> {
        return name == table ? std::vector{table, head} : std::vector{name};
    });
    same(loss_of(folder.path.string(), batch), exact, "a tied table twice");
    write(folder.path.string(), golden, config_of(golden),
          [&](const std::string& name) -> std::vector<std::string> { return {name == table ? head : name}; });
    same(loss_of(folder.path.string(), batch), exact, "a tied table under the head's name");

    write(folder.path.string(), "llama", config_of("llama"), [&](const std::string& name) -> std::vector<std::string> { return {name}; });
    const GoldenBatch untied("llama");
    Json config = config_of("llama");
    config["tie_word_embeddings"] = true;
    check(ds::write_file_atomically(folder.path / "config.json", config.dump()).ok(), "config");
    refused(folder.path.string(), DS_E_UNSUPPORTED, {table, head, "tie_word_embeddings"});
    same(loss_of(folder.path.string(), untied, {{"model_overrides", {{"tie_word_embeddings", false}}}}), loss_of(kModels + "llama", untied),
         "the tie undone");

    const GoldenBatch translation("t5-translation");
    write(folder.path.string(), "t5-translation", config_of("t5-translation"), [](const std::string& name) -> std::vector<std::string> {
        return {name == "shared.weight" ? "decoder.embed_tokens.weight" : name};
    });
    same(loss_of(folder.path.string(), translation), loss_of(kModels + "t5-translation", translation),
         "t5's table under the decoder's name");
}

// Rope: an object as the model, so weights come from the seed and are the same for each spelling.
void rope() {
    const GoldenBatch batch("llama");
    const auto with = [](const Json& fields) {
        Json config = config_of("llama");
        config.erase("rope_parameters");
        config["initializer_range"] = 0.5;
        config.update(fields);
        return config;
    };
    const auto loss = [&](const Json& fields) { return loss_of(with(fields), batch); };
    const double plain = loss({{"rope_theta", 1e4}}),
                 linear = loss({{"rope_parameters", {{"rope_type", "linear"}, {"rope_theta", 1e4}, {"factor", 2.0}}}});
    check(plain != linear, "linear rope changes the loss");
    same(loss({{"rope_theta", 1e4}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}), linear, "rope_scaling");
    same(loss({{"rope_theta", 1e4},
               {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}},
               {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 3e4}}}}),
         linear, "rope_scaling wins");
    same(loss({{"rope_scaling", Json()}, {"rope_parameters", {{"rope_theta", 1e4}}}}), plain, "no rope_scaling");
    same(loss({{"partial_rotary_factor", 0.5}}), plain, "llama does not read partial_rotary_factor");
    const Json twos = Json::array({2.0, 2.0, 2.0, 2.0}), nines = Json::array({9.0, 9.0, 9.0, 9.0});
    const Json longer = {{"rope_type", "longrope"}, {"short_factor", twos}, {"long_factor", nines}, {"factor", 1.0}};
    same(loss({{"original_max_position_embeddings", 32}, {"rope_parameters", longer}}), linear, "longrope's short factors");
    refused(with({{"original_max_position_embeddings", 8}, {"rope_parameters", longer}}), DS_E_UNSUPPORTED,
            {"rope_type", "longrope", "8 positions"}, &batch);
    refused(with({{"rope_parameters", {{"rope_type", "longrope"}, {"short_factor", {1.0}}}}}), DS_E_CONFIG, {"short_factor", "4 numbers"});
    same(loss({{"rope_scaling", {{"type", "dynamic"}, {"factor", 4.0}}}}), plain, "dynamic rope within its positions");
    refused(with({{"max_position_embeddings", 8}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 4.0}}}}), DS_E_UNSUPPORTED,
            {"rope_type", "dynamic", "8 positions"}, &batch);
    const Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}};
    Json told = yarn;
    told["original_max_position_embeddings"] = 16;
    same(loss({{"original_max_position_embeddings", 16}, {"rope_parameters", yarn}}), loss({{"rope_parameters", told}}),
         "what a row may have been, beside the other fields");
    check(loss({{"rope_parameters", yarn}}) != loss({{"rope_parameters", told}}), "yarn reads original_max_position_embeddings");
    const Json llama3 = {{"rope_type", "llama3"}, {"factor", 4.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}};
    told = llama3;
    told["original_max_position_embeddings"] = 64;
    same(loss({{"rope_parameters", llama3}}), loss({{"rope_parameters", told}}), "llama3 without original_max_position_embeddings");
    refused(with({{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}}), DS_E_UNSUPPORTED,
            {"rope_parameters", "full_attention"});
    refused(with({{"rope_parameters", {{"rope_type", "proportional"}}}}), DS_E_UNSUPPORTED, {"rope_type", "proportional"});
}

size_t count(const Json& model, const std::string& part) {
    size_t n = 0;
    for (const std::string& name : training::Engine(engine_config(model)).names()) n += name.find(part) != std::string::npos;
    return n;
}

// What transformers takes for a field that is absent, and which fields it does not read.
void fields() {
    Json glm4 = config_of("glm");
    glm4["model_type"] = "glm4", glm4["architectures"] = {"Glm4ForCausalLM"};
    glm4.erase("attention_bias");
    check(count(glm4, "q_proj.bias") == 2, "glm4 has biases unless attention_bias is false");
    Json mistral = config_of("mistral-window");
    const GoldenBatch batch("mistral-window");
    const double exact = loss_of(mistral, batch);
    mistral["attention_bias"] = mistral["mlp_bias"] = true;
    mistral["layer_types"] = {"full_attention", "full_attention"};
    same(loss_of(mistral, batch), exact, "mistral reads neither biases nor layer_types");
    Json mt5 = config_of("t5-translation");
    const GoldenBatch translation("t5-translation");
    mt5["model_type"] = "mt5", mt5["architectures"] = {"MT5ForConditionalGeneration"};
    const double told = loss_of(mt5, translation);
    mt5.erase("decoder_start_token_id"), mt5.erase("tie_word_embeddings");
    same(loss_of(mt5, translation), told, "mt5 ties its head and decodes from id 0");
    Json gated = config_of("t5-gated");
    const GoldenBatch texts("t5-gated");
    const double both = loss_of(gated, texts);
    gated["feed_forward_proj"] = "relu";
    same(loss_of(gated, texts), both, "t5 reads dense_act_fn and is_gated_act first");
    gated["dense_act_fn"] = "mish";
    refused(gated, DS_E_UNSUPPORTED, {"dense_act_fn", "mish"});
    Json qwen2 = config_of("qwen2");
    qwen2["layer_types"] = {"full_attention", "chunked_attention"};
    refused(qwen2, DS_E_UNSUPPORTED, {"layer_types", "chunked_attention"});
    qwen2["layer_types"] = {"full_attention"};
    refused(qwen2, DS_E_CONFIG, {"layer_types", "2 layers"});
    Json neox = config_of("gptneox");
    neox["head_dim"] = 4;
    refused(neox, DS_E_UNSUPPORTED, {"head_dim 4"});
    Json gpt2 = config_of("gpt2");
    const GoldenBatch words("gpt2");
    gpt2["activation_function"] = "gelu_python";
    const double python = loss_of(gpt2, words);
    gpt2["activation_function"] = "gelu";
    same(python, loss_of(gpt2, words), "gelu_python");
    gpt2["activation_function"] = "mish";
    refused(gpt2, DS_E_UNSUPPORTED, {"activation_function", "mish", "quick_gelu"});
    gpt2["activation_function"] = "gelu", gpt2["architectures"] = {"GPT2DoubleHeadsModel"};
    refused(gpt2, DS_E_UNSUPPORTED, {"architectures", "GPT2DoubleHeadsModel"});
}

// Without weights: as transformers draws them (tests/transformers/fresh.py asks it about every family).
void fresh() {
    const auto made = [](const std::string& golden, Json more) {
        Json config = config_of(golden);
        config.update(more);
        Json engine = engine_config(config);
        engine["model_init"] = "random", engine["outputs"] = Json::array();
        return training::Engine(engine);
    };
    const auto spread = [](const Numbers& x) {
        double squares = 0;
        for (const double v : x) squares += v * v;
        return std::sqrt(squares / static_cast<double>(x.size()));
    };
    const auto gpt2 = made("gpt2", {{"n_layer", 8}, {"n_embd", 64}, {"n_head", 4}, {"n_inner", 256}, {"initializer_range", 0.05}});
    for (const auto& [name, wanted] : {std::pair("mlp.c_fc", 0.05), {"attn.c_proj", 0.05 / 4}, {"mlp.c_proj", 0.05 / 4}})
        check(std::abs(spread(gpt2.param(std::string("transformer.h.3.") + name + ".weight")) / wanted - 1) < 0.05,
              std::string("spread of gpt2's ") + name);
    const auto roberta = made("roberta-sentiment", {{"pad_token_id", 2}});
    for (const char* table : {"roberta.embeddings.word_embeddings.weight", "roberta.embeddings.position_embeddings.weight"}) {
        const Numbers words = roberta.param(table);
        const auto width = config_of("roberta-sentiment")["hidden_size"].get<size_t>();
        for (size_t row = 0; row < 4; ++row)
            check((spread(Numbers(words.begin() + row * width, words.begin() + (row + 1) * width)) == 0) == (row == 2),
                  std::string(table) + ": padding's row alone begins with zeros");
    }
    const auto distilbert = made("distilbert-qa", {{"sinusoidal_pos_embds", true}});
    const Numbers places = distilbert.param("distilbert.embeddings.position_embeddings.weight");
    const auto dim = config_of("distilbert-qa")["dim"].get<size_t>();
    check(places[0] == 0 && places[1] == 1 && std::abs(places[3 * dim] - std::sin(3)) < 1e-7 &&
              std::abs(places[3 * dim + 1] - std::cos(3)) < 1e-7 &&
              std::abs(places[3 * dim + 2] - std::sin(3 / std::pow(10000, 2.0 / static_cast<double>(dim)))) < 1e-7,
          "sines and cosines of positions");
}

}  // namespace

int main() {
    older_names();
    tied_names();
    rope();
    fields();
    fresh();
    return checks::result();
}
