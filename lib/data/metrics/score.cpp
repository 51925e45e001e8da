// Scores by name, on the JSON that a host brings.
#include "data/metrics/metrics.h"

#include "data/tokenizer/unicode.h"

namespace ds::metrics {
namespace {

Result<std::string> text_item(const Json& value, std::string_view what, size_t i) {
    if (!value.is_string()) return fail(Code::E_INVALID_ARGUMENT, "{}: item {} is {}, a text is accepted", what, i, value.dump());
    return value.get<std::string>();
}

Result<std::vector<std::string>> texts(const Json& list, std::string_view what) {
    std::vector<std::string> out;
    for (size_t i = 0; i < list.size(); ++i) {
        DS_TRY(std::string text, text_item(list[i], what, i));
        out.push_back(std::move(text));
    }
    return out;
}

// A text, or a list of texts, each.
Result<std::vector<std::vector<std::string>>> lists(const Json& list, std::string_view what, bool text_serves) {
    std::vector<std::vector<std::string>> out;
    for (size_t i = 0; i < list.size(); ++i) {
        if (!list[i].is_array() && !text_serves)
            return fail(Code::E_INVALID_ARGUMENT, "{}: item {} is {}, a list of texts is accepted", what, i, list[i].dump());
        DS_TRY(std::vector<std::string> row,
               texts(list[i].is_array() ? list[i] : Json::array({list[i]}), fmt::format("{}: item {}", what, i)));
        out.push_back(std::move(row));
    }
    return out;
}

Json to_json(const Shares& s) { return {{"precision", s.precision}, {"recall", s.recall}, {"f1", s.f1}}; }

Result<Json> score_spans(const Json& predictions, const Json& references) {
    DS_TRY(const auto guessed, lists(predictions, "predictions", false));
    DS_TRY(const auto there, lists(references, "references", false));
    for (size_t i = 0; i < there.size(); ++i)
        if (there[i].size() != guessed[i].size())
            return fail(Code::E_INVALID_ARGUMENT, "predictions: item {} has {} tags, references has {}; they must be as many", i,
                        guessed[i].size(), there[i].size());
    return to_json(span_scores(guessed, there));
}

Result<Json> score_answers(const Json& predictions, const Json& references) {
    DS_TRY(const auto guessed, texts(predictions, "predictions"));
    DS_TRY(const auto there, lists(references, "references", true));
    return to_json(answer_scores(guessed, there));
}

Result<Json> score_bleu(const Json& predictions, const Json& references) {
    DS_TRY(const auto guessed, texts(predictions, "predictions"));
    DS_TRY(const auto there, lists(references, "references", true));
    for (size_t i = 0; i < there.size(); ++i)
        if (there[i].empty()) return fail(Code::E_INVALID_ARGUMENT, "references: item {} is empty, one text or more is accepted", i);
    return to_json(bleu_scores(guessed, there));
}

constexpr struct {
    std::string_view name;
    Result<Json> (*score)(const Json&, const Json&);
} kMetrics[] = {{"spans", score_spans}, {"squad", score_answers}, {"bleu", score_bleu}};

}  // namespace

Json to_json(const SpanScores& s) {
    Json out = to_json(s.all);
    out["accuracy"] = s.accuracy;
    out["types"] = Json::object();
    for (const auto& [type, shares] : s.types) {
        out["types"][type] = to_json(shares);
        out["types"][type]["support"] = shares.support;
    }
    return out;
}
Json to_json(const AnswerScores& s) { return {{"exact_match", s.exact_match}, {"f1", s.f1}}; }
Json to_json(const BleuScores& s) {
    return {{"bleu", s.bleu},
            {"brevity_penalty", s.brevity_penalty},
            {"precisions", s.precisions},
            {"length", s.length},
            {"reference_length", s.reference_length}};
}

Result<Json> score(std::string_view metric, const Json& predictions, const Json& references) {
    std::string known;
    for (const auto& each : kMetrics) {
        known += fmt::format("{}{}", known.empty() ? "" : ", ", each.name);
        if (each.name != metric) continue;
        for (const auto& [what, list] : {std::pair{"predictions", &predictions}, {"references", &references}})
            if (!list->is_array())
                return fail(Code::E_INVALID_ARGUMENT, "{}: found {}, a list is accepted", what, list->dump().substr(0, 60));
        if (predictions.size() != references.size())
            return fail(Code::E_INVALID_ARGUMENT, "predictions has {} items, references has {}; they must be as many", predictions.size(),
                        references.size());
        if (predictions.empty()) return fail(Code::E_INVALID_ARGUMENT, "predictions: the list is empty");
        return each.score(predictions, references);
    }
    return fail(Code::E_INVALID_ARGUMENT, "metric \"{}\" is unknown; there are {}", metric, known);
}

}  // namespace ds::metrics
