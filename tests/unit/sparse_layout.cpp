// Layouts of block-sparse attention against those of DeepSpeed 0.14 (its last with that module), block for block; random blocks by their
// properties.
#include <doctest/doctest.h>

#include <fstream>
#include <sstream>

#include "base/json.h"
#include "config/sparse_layout.h"

using namespace ds;

namespace {

Json traces() {
    std::ifstream file(DSRT_TEST_DATA "/traces/sparse_layouts.json");
    std::stringstream text;
    text << file.rdbuf();
    auto parsed = parse_json(text.str(), "sparse_layouts.json");
    REQUIRE(parsed.ok());
    return *parsed;
}

Result<Config> config_of(const Json& settings) {
    return parse_config(Json{{"train_batch_size", 1}, {"sparse_attention", settings}}.dump());
}

SparseAttentionConfig settings_of(const Json& settings) {
    const auto config = config_of(settings);
    INFO(settings.dump());
    INFO(config.status().message());
    REQUIRE(config.ok());
    return config->sparse_attention;
}

// "110/010/...": rows of blocks.
std::string text_of(const std::vector<uint8_t>& layout, int64_t head, int64_t blocks) {
    std::string text;
    for (int64_t row = 0; row < blocks; ++row) {
        text += row ? "/" : "";
        for (int64_t column = 0; column < blocks; ++column)
            text += layout[static_cast<size_t>((head * blocks + row) * blocks + column)] ? '1' : '0';
    }
    return text;
}

}  // namespace

TEST_CASE("sparse_layout/is_deepspeeds_block_for_block") {
    int compared = 0;
    for (const Json& one : traces()) {
        const auto heads = static_cast<int64_t>(one["layout"].size());
        const int64_t blocks = one["blocks"];
        const auto layout = sparse_layout(settings_of(one["settings"]), heads, blocks, 7);
        for (int64_t head = 0; head < heads; ++head, ++compared) {
            INFO(one["settings"].dump());
            CHECK(text_of(layout, head, blocks) == one["layout"][static_cast<size_t>(head)].get<std::string>());
        }
    }
    CHECK(compared == 51);
}

TEST_CASE("sparse_layout/random_blocks_are_as_many_as_asked_and_follow_the_seed") {
    const Json settings = {
        {"mode", "bigbird"}, {"num_random_blocks", 3}, {"num_sliding_window_blocks", 1}, {"different_layout_per_head", true}};
    SparseAttentionConfig c = settings_of(settings);
    c.num_global_blocks = 0;
    const int64_t blocks = 12;
    const auto layout = sparse_layout(c, 2, blocks, 7);
    CHECK(layout == sparse_layout(c, 2, blocks, 7));
    CHECK(layout != sparse_layout(c, 2, blocks, 8));
    CHECK(text_of(layout, 0, blocks) != text_of(layout, 1, blocks));
    for (int64_t row = 0; row < 2 * blocks; ++row) {
        int64_t others = 0;
        for (int64_t column = 0; column < blocks; ++column)
            others += column != row % blocks && layout[static_cast<size_t>(row * blocks + column)];
        CHECK(others >= 2);  // the window's own block may be among those drawn
        CHECK(others <= 3);
    }
}

TEST_CASE("sparse_layout/refuses_settings_that_do_not_fit") {
    const std::pair<Json, const char*> wrong[] = {
        {{{"num_local_blocks", 3}, {"num_global_blocks", 2}},
         "sparse_attention.num_local_blocks: 3 must be a multiple of num_global_blocks 2"},
        {{{"num_different_global_patterns", 2}},
         "sparse_attention.num_different_global_patterns: more than 1 needs different_layout_per_head"},
        {{{"attention", "unidirectional"}, {"horizontal_global_attention", true}},
         "sparse_attention.horizontal_global_attention: needs attention"},
        {{{"mode", "variable"}, {"local_window_blocks", {0}}}, "sparse_attention.local_window_blocks: must be a list of positive numbers"},
        {{{"mode", "variable"}, {"global_block_indices", {2}}, {"global_block_end_indices", {2}}},
         "sparse_attention.global_block_end_indices: 2 must be above 2"}};
    for (const auto& [settings, message] : wrong) {
        const auto config = config_of(settings);
        REQUIRE(!config.ok());
        INFO(config.status().message());
        CHECK(config.status().message().find(message) != std::string::npos);
    }
}
