// Scores equal those of seqeval, torchmetrics' SQuAD and sacrebleu (tests/data/metrics/make.py says how the cases were made).
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "data/metrics/metrics.h"

using namespace ds;

namespace {

Json cases(const char* metric) {
    const auto text = read_file(std::filesystem::path(DSRT_TEST_DATA) / "metrics/cases.json", size_t{1} << 20);
    REQUIRE(text.ok());
    return Json::parse(*text)[metric];
}

// bound: torchmetrics sums in f32.
void compare(const Json& made, const Json& expected, double bound) {
    for (const auto& [name, value] : expected.items()) {
        INFO(name);
        if (value.is_array()) {
            REQUIRE(made[name].size() == value.size());
            for (size_t i = 0; i < value.size(); ++i) CHECK(std::abs(made[name][i].get<double>() - value[i].get<double>()) <= bound);
        } else {
            CHECK(std::abs(made[name].get<double>() - value.get<double>()) <= bound);
        }
    }
}

Json scored(const char* metric, const Json& one) {
    auto made = metrics::score(metric, one["predictions"], one["references"]);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    return *made;
}

std::string refusal(const char* metric, const Json& predictions, const Json& references) {
    return metrics::score(metric, predictions, references).status().message();
}

}  // namespace

TEST_CASE("spans/as_seqeval") {
    for (const Json& one : cases("spans")) {
        INFO(one.dump());
        const Json made = scored("spans", one);
        compare(made, one["expected"], 1e-12);
        CHECK(made["types"].size() == one["types"].size());
        for (const auto& [type, expected] : one["types"].items()) compare(made["types"][type], expected, 1e-12);
    }
}

TEST_CASE("squad/as_torchmetrics") {
    for (const Json& one : cases("squad")) {
        INFO(one.dump());
        compare(scored("squad", one), one["expected"], 1e-4);
    }
}

TEST_CASE("squad/no_answer_is_right_where_there_is_none") {
    const Json made = scored("squad", {{"predictions", {"", "x", ""}}, {"references", {Json::array(), Json::array(), {"y"}}}});
    CHECK(made["exact_match"].get<double>() == doctest::Approx(100.0 / 3));
    CHECK(made["f1"].get<double>() == doctest::Approx(100.0 / 3));
}

TEST_CASE("bleu/as_sacrebleu") {
    for (const Json& one : cases("bleu")) {
        INFO(one.dump());
        compare(scored("bleu", one), one["expected"], 1e-9);
    }
}

TEST_CASE("score/bad_items_are_told") {
    CHECK(refusal("rouge", {"a"}, {"a"}) == "metric \"rouge\" is unknown; there are spans, squad, bleu");
    CHECK(refusal("bleu", {"a", "b"}, {"a"}) == "predictions has 2 items, references has 1; they must be as many");
    CHECK(refusal("bleu", Json::array(), Json::array()) == "predictions: the list is empty");
    CHECK(refusal("bleu", {"a", 7}, {"a", "b"}) == "predictions: item 1 is 7, a text is accepted");
    CHECK(refusal("bleu", {"a"}, Json::array({Json::array()})) == "references: item 0 is empty, one text or more is accepted");
    CHECK(refusal("squad", {"a"}, {{{"text", "a"}}}) == "references: item 0: item 0 is {\"text\":\"a\"}, a text is accepted");
    CHECK(refusal("spans", Json::array({Json::array({"O"})}), Json::array({Json::array({"O", "O"})})) ==
          "predictions: item 0 has 1 tags, references has 2; they must be as many");
    CHECK(refusal("spans", {"O"}, {"O"}) == "predictions: item 0 is \"O\", a list of texts is accepted");
    CHECK(refusal("squad", "a", {"a"}) == "predictions: found \"a\", a list is accepted");
}
