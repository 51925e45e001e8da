#include "engine/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/file.h"
#include "data/metrics/metrics.h"
#include "data/open.h"
#include "engine/engine.h"

namespace ds {
namespace {

struct Options {
    Json generate = Json::object();  // ds_generate's
    std::string predictions;         // a file of a line of JSON each; empty: none
    int64_t max_answer_tokens = 30;
};

Result<Options> read_options(const Json& given) {
    Options out;
    for (const auto& [key, value] : given.items()) {
        if (key == "generate" && value.is_object()) out.generate = value;
        else if (key == "predictions" && value.is_string()) out.predictions = value.get<std::string>();
        else if (key == "max_answer_tokens" && whole_number(value).value_or(0) > 0) out.max_answer_tokens = value.get<int64_t>();
        else
            return fail(Code::E_INVALID_ARGUMENT,
                        "ds_evaluate: options: {} {}; accepted are generate (an object), predictions (a path), max_answer_tokens (a "
                        "positive integer)",
                        key, value.dump());
    }
    return out;
}

size_t largest(std::span<const float> x) { return static_cast<size_t>(std::max_element(x.begin(), x.end()) - x.begin()); }

// One pass over the rows. Each task adds what it needs to know of a batch, and scores at the end.
class Evaluation {
public:
    Evaluation(Engine& engine, OpenedSamples opened, Options options)
        : engine_(engine), o_(std::move(opened)), options_(std::move(options)), target_(o_.samples.task().target()) {}

    Result<Json> run() {
        if (target_ == Target::none)
            return fail(Code::E_INVALID_ARGUMENT, "ds_evaluate: the data has no column of labels, so there is nothing to compare with");
        const DataContext context = engine_.data_context();
        const int64_t rows = std::max<int64_t>(context.rows_per_batch * context.shard_count, 1);
        for (int64_t first = 0; first < o_.samples.size(); first += rows)
            DS_CHECK(one_batch(first, std::min(first + rows, o_.samples.size())));
        Json out = {{"task", o_.task}, {"rows", o_.samples.size()}, {"loss", weight_ > 0 ? loss_ / weight_ : 0.0}};
        DS_CHECK(score(out));
        const bool writes = !options_.predictions.empty() && engine_.job().writes_files();
        DS_CHECK(engine_.job().agree(kCall, writes ? write_file_atomically(options_.predictions, lines_) : ok()));
        return out;
    }

private:
    static constexpr const char* kCall = "ds_evaluate";

    // Every process reads all rows and computes its own; outputs come together again.
    Result<HostTensor> output(const char* name, const std::vector<Sample>& samples) {
        DS_TRY(const HostTensor own, engine_.output(name));
        return engine_.job().of_all_rows(kCall, own, static_cast<int64_t>(samples.size()));
    }

    const Columns& columns() const { return o_.samples.setup().columns; }

    Status one_batch(int64_t first, int64_t last) {
        std::vector<Sample> samples;
        const CounterRandom random = CounterRandom(o_.rules.order.seed).at(0).at(1);
        for (int64_t i = first; i < last; ++i) {
            DS_TRY(Sample sample, o_.samples.get(i));
            o_.samples.task().disturb(sample, random.at(static_cast<uint64_t>(i)));
            samples.push_back(std::move(sample));
        }
        DS_TRY(Batch batch, collate(samples, o_.rules.collate));
        const Interval own = engine_.job().own_rows(last - first);
        if (own.size() < last - first)
            for (auto& [name, tensor] : batch) tensor = slice(tensor, 0, own.begin, own.end);
        float loss = 0;
        DS_CHECK(engine_.eval(batch, &loss));
        const double labels = labels_of(samples);
        loss_ += labels > 0 ? labels * static_cast<double>(loss) : 0;  // of no labels at all the mean means nothing
        weight_ += labels;
        if (target_ == Target::label) return add_classes(samples, first);
        if (o_.task == "token_classification") return add_tags(samples, first);
        if (target_ == Target::span) return add_windows(samples, first);
        if (target_ == Target::sequence)
            for (Sample& sample : samples) sources_.push_back(std::move(sample.ids));
        return ok();
    }

    // How many labels a batch's mean loss is over.
    double labels_of(const std::vector<Sample>& samples) const {
        if (target_ != Target::tokens && target_ != Target::sequence) return static_cast<double>(samples.size());
        int64_t count = 0;
        for (const Sample& s : samples) {
            const bool shifts = o_.task == "causal";  // the first token is predicted by none
            count += std::count_if(s.labels.begin() + (shifts && !s.labels.empty()), s.labels.end(),
                                   [](int32_t label) { return label != kIgnored; });
        }
        return static_cast<double>(count);
    }

    Status score(Json& out) {
        if (target_ == Target::label) out["accuracy"] = static_cast<double>(right_) / static_cast<double>(o_.samples.size());
        if (o_.task == "causal" || o_.task == "mlm") out["perplexity"] = std::exp(out["loss"].get<double>());
        if (o_.task == "token_classification") {
            if (names().empty())
                return fail(Code::E_INVALID_ARGUMENT,
                            "ds_evaluate: the tags have no names (\"names\" or \"auto\" of the column, or the model's id2label), so no "
                            "entities are known");
            out.update(metrics::to_json(metrics::span_scores(guessed_tags_, true_tags_)));
        }
        if (target_ == Target::span) DS_CHECK(score_answers(out));
        if (target_ == Target::sequence) DS_CHECK(score_texts(out));
        return ok();
    }

    // Rows' own places among the selected ones, as a line of the predictions' file.
    void note(int64_t row, Json prediction, Json reference) {
        if (!options_.predictions.empty())
            lines_ += Json({{"row", row}, {"prediction", std::move(prediction)}, {"reference", std::move(reference)}}).dump() + "\n";
    }

    std::string name_of(int64_t label) const {
        const auto& list = names();
        return static_cast<size_t>(label) < list.size() ? list[static_cast<size_t>(label)] : std::to_string(label);
    }
    const std::vector<std::string>& names() const {
        if (!names_.empty()) return names_;
        const LabelRule* rule = o_.samples.task().label_rule();
        if (rule && !rule->names().empty()) return names_ = rule->names();
        return names_ = engine_.label_names();
    }

    Status add_classes(const std::vector<Sample>& samples, int64_t first) {
        DS_TRY(const HostTensor logits, output("logits", samples));
        const auto classes = static_cast<size_t>(logits.shape.back());
        for (size_t r = 0; r < samples.size(); ++r) {
            const auto guess = static_cast<int64_t>(largest(logits.as<float>().subspan(r * classes, classes)));
            right_ += guess == samples[r].label;
            note(first + static_cast<int64_t>(r), name_of(guess), name_of(samples[r].label));
        }
        return ok();
    }

    // A word's first token speaks for it.
    Status add_tags(const std::vector<Sample>& samples, int64_t first) {
        DS_TRY(const HostTensor logits, output("logits", samples));
        const auto length = static_cast<size_t>(logits.shape[1]), classes = static_cast<size_t>(logits.shape[2]);
        for (size_t r = 0; r < samples.size(); ++r) {
            metrics::Tags guessed, there;
            for (size_t t = 0; t < samples[r].labels.size(); ++t) {
                if (samples[r].labels[t] == kIgnored) continue;
                guessed.push_back(name_of(static_cast<int64_t>(largest(logits.as<float>().subspan((r * length + t) * classes, classes)))));
                there.push_back(name_of(samples[r].labels[t]));
            }
            note(first + static_cast<int64_t>(r), guessed, there);
            guessed_tags_.push_back(std::move(guessed));
            true_tags_.push_back(std::move(there));
        }
        return ok();
    }

    struct Answer {
        double score = -INFINITY, none = INFINITY;  // of the best span, of there being none
        int64_t begin = 0, end = 0;
    };

    // The best span of each window of a row's context; that none is there counts as in the window that is least sure of it.
    Status add_windows(const std::vector<Sample>& samples, int64_t first) {
        DS_TRY(const HostTensor starts, output("start_logits", samples));
        DS_TRY(const HostTensor ends, output("end_logits", samples));
        const auto length = static_cast<size_t>(starts.shape[1]);
        for (size_t r = 0; r < samples.size(); ++r) {
            const auto row = static_cast<size_t>(o_.samples.row_of(first + static_cast<int64_t>(r)));
            answers_.resize(std::max(answers_.size(), row + 1));
            Answer& answer = answers_[row];
            const auto start = starts.as<float>().subspan(r * length, length), end = ends.as<float>().subspan(r * length, length);
            const auto& context = samples[r].context;
            const auto special = std::find(samples[r].special.begin(), samples[r].special.end(), uint8_t{1});
            const size_t none = special == samples[r].special.end() ? 0 : static_cast<size_t>(special - samples[r].special.begin());
            answer.none = std::min(answer.none, static_cast<double>(start[none]) + static_cast<double>(end[none]));
            for (size_t i = 0; i < context.size(); ++i)
                for (size_t j = i; context[i].first >= 0 && j < context.size() && context[j].first >= 0 &&
                                   j < i + static_cast<size_t>(options_.max_answer_tokens);
                     ++j) {
                    const double score = static_cast<double>(start[i]) + static_cast<double>(end[j]);
                    if (score > answer.score) answer.score = score, answer.begin = context[i].first, answer.end = context[j].second;
                }
        }
        return ok();
    }

    Status score_answers(Json& out) {
        std::vector<std::vector<std::string>> references;
        std::vector<std::string> predictions, contexts;
        bool some_have_none = false;
        for (size_t row = 0; row < answers_.size(); ++row) {
            DS_TRY(const Record record, o_.samples.record(static_cast<int64_t>(row)));
            references.push_back(answers_of(record[*columns().find("answer")]));
            contexts.push_back(record[*columns().find("context")].text);
            some_have_none |= references.back().empty();
        }
        for (size_t row = 0; row < answers_.size(); ++row) {
            const Answer& a = answers_[row];
            const bool none = !std::isfinite(a.score) || (some_have_none && a.none > a.score);
            predictions.push_back(none ? "" : code_points_of(contexts[row], a.begin, a.end));
            note(static_cast<int64_t>(row), predictions.back(), references[row]);
        }
        out["rows"] = answers_.size();
        out.update(metrics::to_json(metrics::answer_scores(predictions, references)));
        return ok();
    }

    // Rows of about one length are generated together.
    Status score_texts(Json& out) {
        const auto tokenizer = o_.samples.setup().tokenizer;
        std::shared_ptr<const Tokenizer> answers = tokenizer;
        if (const std::string& path = o_.samples.setup().options.target_tokenizer; !path.empty()) {
            DS_TRY(answers, Tokenizer::load(path));
        }
        std::vector<size_t> order(sources_.size());
        std::iota(order.begin(), order.end(), size_t{0});
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sources_[a].size() < sources_[b].size(); });
        std::vector<std::string> predictions(sources_.size());
        constexpr size_t kTogether = 32;
        for (size_t at = 0; at < order.size(); at += kTogether) {
            std::vector<std::vector<int32_t>> prompts;
            const size_t count = std::min(kTogether, order.size() - at);
            for (size_t i = 0; i < count; ++i) prompts.push_back(sources_[order[at + i]]);
            DS_TRY(const auto made, engine_.generate(prompts, options_.generate.dump(), {}));
            for (size_t i = 0; i < count; ++i) { DS_TRY(predictions[order[at + i]], answers->decode(made[i], true)); }
        }
        std::vector<std::vector<std::string>> references;
        for (size_t row = 0; row < sources_.size(); ++row) {
            DS_TRY(const Record record, o_.samples.record(static_cast<int64_t>(row)));
            references.push_back({record[*columns().find("target")].text});
            note(static_cast<int64_t>(row), predictions[row], references.back()[0]);
        }
        out.update(metrics::to_json(metrics::bleu_scores(predictions, references)));
        return ok();
    }

    Engine& engine_;
    const OpenedSamples o_;
    const Options options_;
    const Target target_;
    double loss_ = 0, weight_ = 0;
    int64_t right_ = 0;
    mutable std::vector<std::string> names_;
    std::vector<metrics::Tags> guessed_tags_, true_tags_;
    std::vector<Answer> answers_;
    std::vector<std::vector<int32_t>> sources_;
    std::string lines_;
};

}  // namespace

Result<Json> evaluate(Engine& engine, Json data, const Json& options) {
    DS_TRY(Options read, read_options(options));
    if (data.is_object() && data.contains("align")) data["align"] = "first";
    DataContext context = engine.data_context();
    context.curriculum = {}, context.tokens_per_batch = 0;  // of training
    auto opened = open_samples(data, context);
    DS_CHECK(engine.job().agree("ds_evaluate", opened.status()));
    return Evaluation(engine, std::move(*opened), std::move(read)).run();
}

}  // namespace ds
