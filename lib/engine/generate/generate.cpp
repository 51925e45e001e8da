// Generation: prompts go through the model once, then token by token: greedy, by drawing, or by beam search.
#include <algorithm>
#include <numeric>

#include "base/file.h"
#include "base/json.h"
#include "base/round.h"
#include "data/text_stream.h"
#include "engine/engine.h"
#include "engine/generate/beams.h"
#include "engine/generate/decoder.h"
#include "engine/generate/next_token.h"

namespace ds {
namespace {

// Whether the text of a row's new ids holds one of the stop strings. The id that completes one is the row's last, as in transformers.
class StopWatch {
public:
    StopWatch(const GenerateOptions& o, const std::shared_ptr<const Tokenizer>& tokenizer) : o_(&o), stream_(tokenizer, false) {
        for (const std::string& s : o.stop_strings) longest_ = std::max(longest_, s.size());
    }
    Result<bool> hears(int32_t id) {
        if (longest_ == 0) return false;
        DS_TRY(const std::string text, stream_.put(std::span(&id, 1)));
        text_ += text;
        DS_TRY(const std::string held, stream_.held());
        for (const std::string& s : o_->stop_strings)
            if ((text_ + held).find(s) != std::string::npos) return true;
        if (text_.size() > longest_) text_.erase(0, text_.size() - longest_);  // an earlier end would have been heard before
        return false;
    }

private:
    const GenerateOptions* o_;
    TextStream stream_;
    std::string text_;
    size_t longest_ = 0;
};

}  // namespace

// One call of ds_generate or ds_generate_batch.
class Generation {
public:
    // sources: of an encoder-decoder, one a prompt; else none.
    // somebody_listens: in this process or another.
    Generation(Engine& engine, std::vector<std::vector<int32_t>> prompts, const std::vector<std::vector<int32_t>>* sources,
               GenerateOptions options, const TokenListener& listener, bool somebody_listens)
        : engine_(engine),
          prompts_(std::move(prompts)),
          sources_(sources),
          o_(std::move(options)),
          listener_(listener),
          somebody_listens_(somebody_listens),
          made_(prompts_.size()) {
        for (const auto& prompt : prompts_)
            most_new_.push_back(o_.most_new(static_cast<int64_t>(prompt.size()), engine.model_->max_positions));
    }

    Result<std::vector<std::vector<int32_t>>> run() {
        std::vector<std::vector<int32_t>> prompts, sources;
        for (size_t r = 0; r < prompts_.size(); ++r)
            if (most_new_[r] > 0) {
                rows_.push_back(r);
                prompts.push_back(prompts_[r]);
                if (sources_) sources.push_back((*sources_)[r]);
            }
        if (rows_.empty()) return std::move(made_);
        decoder_ = make_decoder();
        Status status = decoder_->start(prompts, sources);
        if (status.code() == Code::E_UNSUPPORTED) {  // attention of a kind that a cache is not built for
            decoder_ = shared(make_plain_decoder(engine_));
            status = decoder_->start(prompts, sources);
        }
        if (status.ok()) status = o_.num_beams > 1 ? search() : sample();
        decoder_.reset();
        DS_CHECK(status);
        return std::move(made_);
    }

private:
    static constexpr const char* kCall = "ds_generate";

    std::unique_ptr<Decoder> shared(std::unique_ptr<Decoder> own) const {
        return engine_.ranks_->row_holders().size() > 1 ? make_shared_decoder(engine_, std::move(own)) : std::move(own);
    }

    std::unique_ptr<Decoder> make_decoder() const {
        if (!o_.use_cache || !engine_.caches()) return shared(make_plain_decoder(engine_));
        DecoderSize size;
        for (const size_t r : rows_) {
            const auto prompt = static_cast<int64_t>(prompts_[r].size());
            size.capacity = std::max(size.capacity, prompt + most_new_[r]);
            size.tokens += prompt + o_.num_beams * most_new_[r];
            if (!sources_) continue;
            const auto source = static_cast<int64_t>((*sources_)[r].size());
            size.source_capacity = std::max(size.source_capacity, source);
            size.source_tokens += source;
        }
        return shared(make_cached_decoder(engine_, size));
    }

    // The listener's answer to new ids: positive ends the row.
    Result<bool> tell(size_t row, std::span<const int32_t> ids) {
        const int answer = listener_ ? listener_(row, ids) : 0;
        if (answer < 0) return fail(Code::E_USER, "{}: the token callback answered {}", kCall, answer);
        return answer != 0;
    }

    // Of each row's last id. The answer of all processes' listeners: not zero ends the row.
    Result<std::vector<double>> tell_of_all() {
        std::vector<std::pair<int, double>> ended;
        Status status;
        for (size_t i = 0; i < rows_.size() && status.ok(); ++i) {
            const auto answer = tell(rows_[i], std::span(&made_[rows_[i]].back(), 1));
            if (!answer.ok()) status = answer.status();
            else if (*answer) ended.emplace_back(static_cast<int>(rows_[i]), 1.0);
        }
        DS_CHECK(engine_.job_.agree(kCall, status));
        if (!somebody_listens_) return std::vector<double>(prompts_.size(), 0.0);
        return engine_.job_.of_all(kCall, ended, prompts_.size());
    }

    bool is_end(int32_t id) const { return std::find(o_.eos.begin(), o_.eos.end(), id) != o_.eos.end(); }

    Status sample() {
        std::vector<StopWatch> watches(prompts_.size(), StopWatch(o_, engine_.data_context().tokenizer));
        std::vector<std::vector<int32_t>> all = prompts_;
        while (true) {
            for (size_t i = 0; i < rows_.size(); ++i) {
                const size_t r = rows_[i];
                const std::span<float> scores = decoder_->logits(i);
                process_scores(o_, scores, all[r], static_cast<int64_t>(made_[r].size()), most_new_[r]);
                const int32_t id = next_token(o_, scores, static_cast<int64_t>(r), static_cast<int64_t>(all[r].size()));
                all[r].push_back(id);
                made_[r].push_back(id);
            }
            DS_TRY(const std::vector<double> stopped, tell_of_all());
            std::vector<int> from;
            std::vector<int32_t> ids;
            std::vector<size_t> going;
            for (size_t i = 0; i < rows_.size(); ++i) {
                const size_t r = rows_[i];
                const int32_t id = made_[r].back();
                DS_TRY(const bool heard, watches[r].hears(id));
                if (stopped[r] != 0 || heard || is_end(id) || static_cast<int64_t>(made_[r].size()) >= most_new_[r]) continue;
                going.push_back(r);
                from.push_back(static_cast<int>(i));
                ids.push_back(id);
            }
            rows_ = std::move(going);
            if (rows_.empty()) return ok();
            DS_CHECK(decoder_->advance(from, ids));
        }
    }

    Status search() {
        struct Row {
            size_t row;
            Beams beams;
            int first, count;
        };  // its running beams among the decoder's sequences
        std::vector<Row> searches;
        for (size_t i = 0; i < rows_.size(); ++i)
            searches.push_back({rows_[i], Beams(o_, prompts_[rows_[i]], most_new_[rows_[i]]), static_cast<int>(i), 1});
        Status failed, told;
        const auto tokenizer = engine_.data_context().tokenizer;
        std::function<bool(std::span<const int32_t>)> stops;
        if (!o_.stop_strings.empty())
            stops = [&](std::span<const int32_t> ids) {
                StopWatch watch(o_, tokenizer);
                bool heard = false;
                for (const int32_t id : ids) {
                    auto now = watch.hears(id);
                    if (!now.ok()) failed = now.status();
                    heard |= now.ok() && *now;
                }
                return heard;
            };
        while (!searches.empty()) {
            std::vector<int> from;
            std::vector<int32_t> ids;
            std::vector<Row> going;
            for (Row& row : searches) {
                std::vector<std::span<float>> logits;
                for (int b = 0; b < row.count; ++b) logits.push_back(decoder_->logits(static_cast<size_t>(row.first + b)));
                const auto choices = row.beams.advance(logits, stops);
                DS_CHECK(failed);
                if (choices.empty()) {
                    made_[row.row] = row.beams.best();
                    if (told.ok()) told = tell(row.row, made_[row.row]).status();
                    continue;
                }
                const auto first = static_cast<int>(from.size());
                for (const auto& choice : choices) {
                    from.push_back(row.first + choice.from);
                    ids.push_back(choice.id);
                }
                row.first = first;
                row.count = static_cast<int>(choices.size());
                going.push_back(std::move(row));
            }
            DS_CHECK(engine_.job_.agree(kCall, told));
            searches = std::move(going);
            if (!searches.empty()) DS_CHECK(decoder_->advance(from, ids));
        }
        return ok();
    }

    Engine& engine_;
    const std::vector<std::vector<int32_t>> prompts_;  // what the decoder begins with
    const std::vector<std::vector<int32_t>>* const sources_;
    const GenerateOptions o_;
    const TokenListener& listener_;
    const bool somebody_listens_;
    std::vector<std::vector<int32_t>> made_;
    std::vector<int64_t> most_new_;
    std::vector<size_t> rows_;  // that go on, in the decoder's order
    std::unique_ptr<Decoder> decoder_;
};

// What can be said of a call before anything runs.
Result<GenerateOptions> Engine::check_prompts(const std::vector<std::vector<int32_t>>& prompts, std::string_view options_json) const {
    const int64_t vocabulary = model_->encoder_decoder ? model_->source_vocabulary : model_->vocabulary;
    DS_TRY(GenerateOptions options, generate_options(options_json, generation_defaults(), model_->vocabulary, "ds_generate"));
    for (size_t r = 0; r < prompts.size(); ++r) {
        const auto length = static_cast<int64_t>(prompts[r].size());
        const std::string which = prompts.size() > 1 ? fmt::format("prompt {}", r) : "the prompt";
        if (length == 0) return fail(Code::E_INVALID_ARGUMENT, "ds_generate: {} is empty; give at least one id", which);
        if (model_->max_positions && length > model_->max_positions)
            return fail(Code::E_INVALID_ARGUMENT, "ds_generate: {} has {} ids, but {} has {} positions", which, length, model_->family,
                        model_->max_positions);
        for (size_t i = 0; i < prompts[r].size(); ++i)
            if (prompts[r][i] < 0 || prompts[r][i] >= vocabulary)
                return fail(Code::E_INVALID_ARGUMENT, "ds_generate: id {} of {} is {}, outside the vocabulary 0..{}", i, which,
                            prompts[r][i], vocabulary - 1);
    }
    if (!options.stop_strings.empty() && !data_context().tokenizer)
        return fail(Code::E_INVALID_ARGUMENT,
                    "ds_generate: stop_strings needs a tokenizer: name one by the config's \"tokenizer\" or keep it in the model's folder");
    if (!model_->encoder_decoder) return options;
    if (!options.decoder_start && model_->decoder_start_id && *model_->decoder_start_id < model_->vocabulary)
        options.decoder_start = static_cast<int32_t>(*model_->decoder_start_id);
    if (!options.decoder_start)
        return fail(Code::E_INVALID_ARGUMENT,
                    "ds_generate: decoder_start_token_id is missing: neither the options, generation_config.json nor config.json has one "
                    "in the vocabulary 0..{}",
                    model_->vocabulary - 1);
    return options;
}

Result<std::vector<std::vector<int32_t>>> Engine::generate(const std::vector<std::vector<int32_t>>& prompts, std::string_view options_json,
                                                           const TokenListener& listener) {
    DS_CHECK(usable());
    if (!model_ || (model_->task != Task::causal_lm && model_->task != Task::seq2seq_lm))
        return fail(Code::E_UNSUPPORTED, "ds_generate: needs a causal language model, or an encoder-decoder with a head");
    auto options = check_prompts(prompts, options_json);
    DS_CHECK(job_.agree("ds_generate", options.status()));
    DS_TRY(const bool somebody_listens, job_.agree_on_prompts(prompts, options_json, static_cast<bool>(listener)));
    const bool encodes = model_->encoder_decoder;
    std::vector<std::vector<int32_t>> begins = prompts;
    if (encodes) begins.assign(prompts.size(), {*options->decoder_start});
    auto made = Generation(*this, std::move(begins), encodes ? &prompts : nullptr, std::move(*options), listener, somebody_listens).run();
    for (const auto& rank : *ranks_) rank->cache.release();
    // Its memory was used; that of a pending forward was not.
    if (last_ && !(last_->train && !last_->key().seeds.empty())) last_.reset();
    publish();
    return made;
}

// What the model's folder says of ids: generation_config.json has the last word, as in transformers.
Json Engine::generation_defaults() const {
    Json defaults = Json::object();
    const auto take = [&](const Json& from) {
        for (const char* name : kFolderOptions)
            if (const auto found = from.find(name); found != from.end()) defaults[name] = *found;
    };
    if (model_config_.is_object()) take(model_config_);
    if (model_folder_.empty()) return defaults;
    const auto path = std::filesystem::path(model_folder_) / "generation_config.json";
    if (!std::filesystem::exists(path)) return defaults;
    const auto text = read_file(path, size_t{1} << 20);
    const auto parsed = text.ok() ? parse_json(*text, path.string()) : Result<Json>(text.status());
    if (parsed.ok() && parsed->is_object()) take(*parsed);
    return defaults;
}

// Whether these ranks can keep keys and values; other layouts run whole sequences again.
bool Engine::caches() const {
    const bool fits = config_.zero_stage < 3 && config_.mesh.expert == 1 && ranks_->extent(MeshAxis::tensor) == 1 &&
                      ranks_->extent(MeshAxis::pipeline) == 1 && ranks_->extent(MeshAxis::sequence) == 1;
    if (!fits || job_.alone()) return fits;
    // One process finds out by trying; several must know beforehand, as one may have nothing to try it with.
    PlanKey key{.shape = {.tokens = 8, .rows = 1, .length = 1, .labelled = 8}, .cache = {.pool = 8, .capacity = 8}, .outputs = {"logits"}};
    key.cache.fresh = true;
    if (model_->encoder_decoder) key.shape.source_tokens = key.cache.source_pool = key.cache.source_capacity = 8;
    return graph_of((*ranks_)[0], key).ok();
}

Status Engine::run_cached(Rank& rank, const PlanKey& key, const Packed& packed) {
    DS_TRY(const std::shared_ptr<Plan> plan, plan_for(rank, key));
    const Graph& graph = plan->graph();
    int64_t bytes_needed = 0;
    std::map<ValueId, int64_t> offsets;
    for (const ValueId id : graph.inputs)
        if (is_cache(graph.value(id))) {
            offsets[id] = bytes_needed;
            bytes_needed += round_up(bytes(graph.type(id)), 64);
        }
    DS_CHECK(rank.cache.reserve(static_cast<size_t>(bytes_needed)));
    DS_CHECK(rank.other_arena.reserve(static_cast<size_t>(plan->arena_bytes())));
    DS_CHECK(place_plan(rank, *plan, rank.other_arena.data(), [&](ValueId id) { return rank.cache.data() + offsets.at(id); }));
    DS_CHECK(fill_inputs(rank.device.get(), packed, *plan));
    return run_part(rank, *plan, Plan::Part::forward, 0, false);
}

}  // namespace ds
