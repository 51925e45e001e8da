// ds_export: a Hugging Face folder.
#include "base/file.h"
#include "base/json_argument.h"
#include "base/log.h"
#include "ckpt/safetensors.h"
#include "engine/engine.h"
#include "engine/files.h"

namespace ds {
namespace {

Status write_as(const WholeParams& whole, const ReadWhole& read, const Param& p, DType dtype, const ChunkWriter& write) {
    constexpr int64_t chunk = 1 << 20;
    const int64_t n = elements(p.shape);
    std::vector<float> gathered;
    const float* weight = whole.in_place(p, {Field::weight});
    if (!weight) {
        gathered.resize(static_cast<size_t>(n));
        DS_CHECK(read(p, {Field::weight}, gathered.data()));
        weight = gathered.data();
    }
    std::vector<std::byte> buffer(static_cast<size_t>(chunk * size_of(dtype)));
    for (int64_t at = 0; at < n; at += chunk) {
        const int64_t count = std::min(chunk, n - at);
        convert(weight + at, DType::f32, buffer.data(), dtype, count);
        DS_CHECK(write({buffer.data(), static_cast<size_t>(count * size_of(dtype))}));
    }
    return ok();
}

}  // namespace

Status Engine::export_folder(std::string_view dir_view, std::string_view options_json) {
    DS_TRY(const Json options, options_of(options_json, "ds_export", {"dtype", "max_shard_bytes", "adapter", "quantized"}));
    DS_TRY(const bool adapter_only, flag_of(options, "ds_export", "adapter"));
    DS_TRY(const bool quantized, flag_of(options, "ds_export", "quantized"));
    if (quantized && adapter_only) return fail(Code::E_INVALID_ARGUMENT, "ds_export: options quantized and adapter exclude each other");
    if (adapter_only && !adapters_)
        return fail(Code::E_STATE, "ds_export: option adapter: this engine has no adapters; the config's \"lora\" makes some");
    if (!model_) return fail(Code::E_UNSUPPORTED, "ds_export: a host's own graph has no Hugging Face form; ds_save keeps its weights");
    DType dtype = DType::f32;
    if (options.contains("dtype")) {
        const auto wanted = options["dtype"].is_string() ? parse_float_dtype(options["dtype"]) : std::nullopt;
        if (!wanted || size_of(*wanted) > 4)
            return fail(Code::E_INVALID_ARGUMENT, "ds_export: dtype must be f32, bf16 or f16, not {}", options["dtype"].dump());
        dtype = *wanted;
    }
    const Json shard = options.value("max_shard_bytes", Json(uint64_t{5} << 30));
    if (!shard.is_number_unsigned() || shard.get<uint64_t>() == 0 || shard.get<uint64_t>() > INT64_MAX)
        return fail(Code::E_INVALID_ARGUMENT, "ds_export: max_shard_bytes must be a whole number of bytes above 0, not {}", shard.dump());
    DS_CHECK(usable());
    if (!job_.writes_files()) return read_for_writer("ds_export");
    return end_of_reads("ds_export", export_here(std::filesystem::path(dir_view), dtype, shard.get<int64_t>(), adapter_only, quantized));
}

Status Engine::export_here(const std::filesystem::path& dir, DType dtype, int64_t shard_bytes, bool adapter_only, bool quantized) {
    const ReadWhole read = [this](const Param& p, Field field, float* out) { return read_whole("ds_export", p, field, out); };
    std::error_code error;
    std::filesystem::create_directories(dir, error);
    if (error) return fail(Code::E_IO, "ds_export: {}: cannot create the folder: {}", dir.string(), error.message());
    if (adapter_only) return export_adapter(dir, dtype);
    std::vector<NamedTensor> tensors;
    Json config = model_config_;
    const ExportSource source{*params_, [&](const Param& p, float* out) { return read(p, {Field::weight}, out); }, *program_,
                              smallest_key()};
    DS_TRY(const auto compressed, compressed_weights(compression_.spec(), counters_.updates, source, config));
    config.erase("quantization_config");
    std::map<std::string, CodedModule> in_few_bits;
    if (quantized) {
        DS_TRY(in_few_bits, coded_.empty() ? coded_compressed_weights(compression_.spec(), counters_.updates, source) : coded_modules());
        DS_CHECK(drop_what_has_no_form(in_few_bits));
        config["quantization_config"] = coded_folder_config(in_few_bits);
    }
    for (const auto& [module, coded] : in_few_bits) add_coded_tensors(module, coded, tensors);
    for (const Param& p : params_->all()) {
        if (is_compression_tensor(p.name) || is_of_teacher(p)) continue;  // the former are in what they mask
        if (p.name.ends_with(".weight") && in_few_bits.contains(p.name.substr(0, p.name.size() - 7))) continue;
        if (const auto found = compressed.find(p.name); found != compressed.end()) {
            const HostTensor* weight = &found->second;
            tensors.push_back({p.name, dtype, weight->shape, nullptr, [weight, dtype](const ChunkWriter& write) {
                                   const HostTensor as = weight->to(dtype);
                                   return write({static_cast<const std::byte*>(as.data), static_cast<size_t>(as.bytes())});
                               }});
            continue;
        }
        if (is_adapter_tensor(p.name)) continue;  // merged into what they change
        NamedTensor tensor = tensor_of(*whole_, read, p, {Field::weight}, p.name, p.shape);
        if (params_->find(adapter_tensor(std::string(p.name.substr(0, p.name.rfind('.'))), 'A')) && p.name.ends_with(".weight")) {
            tensor.dtype = dtype;
            tensor.data = nullptr;
            tensor.source = [this, &p, dtype](const ChunkWriter& write) -> Status {
                DS_TRY(const HostTensor whole, merged_weight(p));
                const HostTensor merged = whole.to(dtype);
                return write({static_cast<const std::byte*>(merged.data), static_cast<size_t>(merged.bytes())});
            };
        } else if (dtype != DType::f32) {
            tensor.dtype = dtype;
            tensor.data = nullptr;
            tensor.source = [this, read, &p, dtype](const ChunkWriter& write) { return write_as(*whole_, read, p, dtype, write); };
        }
        tensors.push_back(std::move(tensor));
    }
    DS_CHECK(write_weights(dir, tensors, shard_bytes));
    config["dtype"] = dtype == DType::f32 ? "float32" : dtype == DType::bf16 ? "bfloat16" : "float16";
    config.erase("torch_dtype");
    if (model_->task == Task::sequence_classification || model_->task == Task::token_classification) write_label_names(config);
    DS_CHECK(write_file_atomically(dir / "config.json", config.dump(2) + "\n"));
    return copy_tokenizer(dir);
}

// A weight that the form can't tell is written whole.
Status Engine::drop_what_has_no_form(std::map<std::string, CodedModule>& modules) const {
    if (modules.empty())
        return fail(Code::E_STATE,
                    "ds_export: option quantized: no weight of this engine is in few bits; quantization in the config makes them so, or "
                    "compression_training.weight_quantization once it is on");
    if (adapters_)
        return fail(Code::E_UNSUPPORTED, "ds_export: option quantized: not built for an engine with lora, whose merged weights are whole");
    std::erase_if(modules, [](const auto& entry) {
        const auto what = lacks(entry.second);
        if (what) log(Level::warn, "export", "{}.weight is written whole: it has {}", entry.first, *what);
        return what.has_value();
    });
    return ok();
}

std::vector<std::string> Engine::label_names() const {
    std::vector<std::string> names;
    const Json given = model_ && model_config_.is_object() ? model_config_.value("id2label", Json()) : Json();
    for (int64_t i = 0; given.is_object() && i < model_->labels; ++i) {
        const Json name = given.value(std::to_string(i), Json());
        if (!name.is_string()) return {};
        names.push_back(name.get<std::string>());
    }
    return names;
}

// transformers reads the number of labels from id2label. What the data calls its classes goes before what the folder called them: it was
// trained on.
void Engine::write_label_names(Json& config) const {
    config.erase("num_labels");
    Json names = Json::object(), ids = Json::object();
    const std::vector<std::string>& known = data_label_names_;
    const bool told = static_cast<int64_t>(known.size()) == model_->labels;
    if (!told && !label_names().empty()) return;
    for (int64_t i = 0; i < model_->labels; ++i) {
        const std::string name = static_cast<size_t>(i) < known.size() ? known[static_cast<size_t>(i)] : fmt::format("LABEL_{}", i);
        names[std::to_string(i)] = name;
        ids[name] = i;
    }
    config["id2label"] = names;
    config["label2id"] = ids;
}

Status Engine::copy_tokenizer(const std::filesystem::path& dir) const {
    std::filesystem::path from = config_.tokenizer.empty() ? model_folder_ : config_.tokenizer;
    if (from.empty()) return ok();
    const std::filesystem::path given = from;
    if (!std::filesystem::is_directory(from)) from = from.parent_path();
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt",
                             "added_tokens.json", "spiece.model", "tokenizer.model", "generation_config.json"}) {
        std::error_code error;
        if (!std::filesystem::exists(from / name) || std::filesystem::equivalent(from, dir, error)) continue;
        DS_TRY(const std::string contents, read_file(from / name));
        DS_CHECK(write_file_atomically(dir / name, contents));
    }
    // A file of another name gets the one under which folders are read.
    for (const auto& [ending, name] : {std::pair{".json", "tokenizer.json"}, {".txt", "vocab.txt"}, {".model", "tokenizer.model"}})
        if (!std::filesystem::is_directory(given) && given.extension() == ending && given.filename() != name &&
            given.filename() != "spiece.model") {
            DS_TRY(const std::string contents, read_file(given));
            DS_CHECK(write_file_atomically(dir / name, contents));
        }
    return ok();
}

}  // namespace ds
