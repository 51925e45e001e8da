#include "config/elasticity.h"

#include <doctest/doctest.h>

#include "base/file.h"

using namespace ds;

namespace {

ElasticSettings settings_of(const Json& json) {
    return {json["max_train_batch_size"],
            json["micro_batch_sizes"],
            json["min_gpus"],
            json["max_gpus"],
            json.value("num_gpus_per_node", 1),
            1,
            json.value("prefer_larger_batch", true),
            json["version"]};
}

Result<Config> configured(const std::string& elasticity, const std::string& rest = "") {
    return parse_config(R"({"model": "folder", "optimizer": {"type": "AdamW"}, "elasticity": {"enabled": true)" + elasticity + "}" + rest +
                        "}");
}

const char* const kDeepSpeeds =
    R"(, "max_train_batch_size": 10000, "micro_batch_sizes": [8, 12, 16, 17], "min_gpus": 32, "max_gpus": 1500, "min_time": 20, "version": 0.1)";

}  // namespace

// tests/unit/elasticity/test_elastic.py's cases, then random ones: answers of DeepSpeed's compute_elastic_config (edaa7221), where
// a batch of no rows counts as an error, as it is in what follows there.
TEST_CASE("elasticity/deepspeeds_answers") {
    const auto text = read_file(DSRT_TEST_DATA "/traces/elasticity.json", 1 << 20);
    REQUIRE(text.ok());
    const Json rows = Json::parse(*text);
    REQUIRE(rows.size() > 50);
    int refused = 0;
    for (const Json& row : rows) {
        CAPTURE(row.dump());
        const auto sizes = resolve_elastic(settings_of(row["settings"]), row["ranks"]);
        CHECK(sizes.ok() == !row.contains("error"));
        if (!sizes.ok()) refused += sizes.status().code() == Code::E_CONFIG;
        if (!sizes.ok() || row.contains("error")) continue;
        CHECK(sizes->train == row["batch"]);
        CHECK(sizes->micro == row["micro"]);
        CHECK(sizes->train == sizes->micro * sizes->accumulation * row["ranks"].get<int64_t>());
        CHECK(elastic_batch(settings_of(row["settings"]), row["ranks"])->data_ranks == row["valid"].get<std::vector<int64_t>>());
    }
    CHECK(refused > 10);
}

TEST_CASE("elasticity/chooses_the_sizes_of_a_config") {
    const auto config = configured(kDeepSpeeds, R"(, "parallel": {"data": 64})");
    REQUIRE(config.ok());
    CHECK(config->batch.train == 9792);
    CHECK(config->batch.micro == 17);
    CHECK(config->batch.accumulation == 9);
    CHECK(config->effective["train_batch_size"] == 9792);
    const auto split =
        configured(R"(, "max_train_batch_size": 100, "micro_batch_sizes": [2], "num_gpus_per_node": 4, "model_parallel_size": 2)",
                   R"(, "parallel": {"data": 2, "tensor": 2})");
    REQUIRE(split.ok());
    CHECK(split->batch.train == 96);
    // Without "enabled" the section is only checked.
    CHECK(parse_config(R"({"model": "folder", "train_batch_size": 3, "elasticity": {"max_train_batch_size": 100}})")->batch.train == 3);
}

TEST_CASE("elasticity/sizes_given_besides_are_an_error_or_set_aside") {
    CHECK(configured(kDeepSpeeds, R"(, "parallel": {"data": 64}, "train_batch_size": 2)").status().message() ==
          "config: train_batch_size: elasticity.enabled chooses it; leave it out, or set elasticity.ignore_non_elastic_batch_info");
    const auto config = configured(kDeepSpeeds + std::string(R"(, "ignore_non_elastic_batch_info": true)"),
                                   R"(, "parallel": {"data": 64}, "train_batch_size": 2)");
    REQUIRE(config.ok());
    CHECK(config->batch.train == 9792);
    CHECK(config->warnings == std::vector<std::string>{"config: train_batch_size: 2 becomes 9792, which elasticity chooses"});
}

TEST_CASE("elasticity/mistakes_name_the_key") {
    const auto says = [](const std::string& elasticity, const std::string& rest = "") {
        return std::string(configured(elasticity, rest).status().message());
    };
    CHECK(says(kDeepSpeeds, R"(, "parallel": {"data": 128})")
              .starts_with(
                  "config: elasticity: 128 data-parallel ranks can't share the batch of 9792 rows; 32, 34, 36, 48, 51, 64, 68, 72, "));
    CHECK(says("") == "config: elasticity.max_train_batch_size: must be given where elasticity.enabled is true");
    CHECK(says(R"(, "max_train_batch_size": 4)") == "config: elasticity.micro_batch_sizes: must be given where elasticity.enabled is true");
    const std::string most = R"(, "max_train_batch_size": 16)", micro = R"(, "micro_batch_sizes": [2])", both = most + micro;
    for (const char* sizes : {"[1, 4, -1, 2, -10]", R"(["a", null, 0.5])", "[2, 0.5, 4]", "[]", "[17]"})
        CHECK(says(most + R"(, "micro_batch_sizes": )" + sizes).starts_with("config: elasticity.micro_batch_sizes: must be "));
    CHECK(says(most + R"(, "micro_batch_sizes": 5)") == "config: elasticity.micro_batch_sizes: must be an array, is 5");
    for (const char* key : {"min_gpus", "max_gpus", "num_gpus_per_node", "model_parallel_size"})
        CHECK(says(both + ", \"" + key + "\": -1").starts_with(std::string("config: elasticity.") + key + ": must be "));
    CHECK(says(both + R"(, "min_gpus": 5, "max_gpus": 4)") == "config: elasticity.min_gpus: must be at most max_gpus 4, is 5");
    CHECK(says(both + R"(, "version": 0.3)") == "config: elasticity.version: must be 0.1 or 0.2, is 0.3");
    CHECK(says(both + R"(, "version": 0.1, "model_parallel_size": 4, "num_gpus_per_node": 8)") ==
          "config: elasticity.model_parallel_size: 4 needs elasticity.version 0.2");
    CHECK(says(both + R"(, "model_parallel_size": 16, "num_gpus_per_node": 8)") ==
          "config: elasticity.model_parallel_size: 16 must divide num_gpus_per_node 8");
    CHECK(says(both + R"(, "model_parallel_size": 2, "num_gpus_per_node": 2)") ==
          "config: elasticity.model_parallel_size: must be the ranks that share a copy, which parallel makes 1, is 2");
    CHECK(says(R"(, "max_train_batch_size": 9223372036854775807)" + micro)
              .starts_with("config: elasticity.max_train_batch_size: must be at most "));
    CHECK(says(both, R"(, "parallel": {"data": 9})") ==
          "config: elasticity: no size of micro_batch_sizes fits into max_train_batch_size 16 over 9 data-parallel ranks");
}
