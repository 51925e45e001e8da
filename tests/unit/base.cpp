// lib/base: conversions between element types and the JSON limits.
#include <doctest/doctest.h>

#include <cmath>

#include "base/dtype.h"
#include "base/json.h"
#include "base/mesh.h"

using namespace ds;

TEST_CASE("dtype/every_f16_and_bf16_value_survives_the_way_through_f32") {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const F16 h{static_cast<uint16_t>(bits)};
        const BF16 b{static_cast<uint16_t>(bits)};
        if (std::isnan(to_f32(h))) CHECK(std::isnan(to_f32(to_f16(to_f32(h)))));
        else CHECK(to_f16(to_f32(h)).bits == h.bits);
        if (std::isnan(to_f32(b))) CHECK(std::isnan(to_f32(to_bf16(to_f32(b)))));
        else CHECK(to_bf16(to_f32(b)).bits == b.bits);
    }
}

TEST_CASE("dtype/f16_rounds_to_nearest_even_and_overflows_to_infinity") {
    CHECK(to_f16(1.0f + 0x1p-11f).bits == 0x3c00);
    CHECK(to_f16(1.0f + 0x1.8p-10f).bits == 0x3c02);
    CHECK(to_f16(65519.0f).bits == 0x7bff);
    CHECK(to_f16(65520.0f).bits == 0x7c00);
    CHECK(to_f16(0x1p-25f).bits == 0);
    CHECK(to_f16(0x1.1p-25f).bits == 1);
}

TEST_CASE("json/refuses_duplicate_keys_deep_nesting_and_bad_syntax_and_says_where") {
    CHECK(parse_json("{\"a\": 1, /* why */ \"b\": [1, 2] // end\n}", "x").ok());
    const auto twice = parse_json("{\"a\": 1, \"a\": 2}", "config");
    REQUIRE(!twice.ok());
    CHECK(twice.status().message() == "config: key \"a\" appears twice in one object");
    const auto deep = parse_json(std::string(100, '[') + std::string(100, ']'), "config");
    REQUIRE(!deep.ok());
    CHECK(deep.status().message() == "config: nested deeper than 64 levels");
    const auto bad = parse_json("{\"a\": }", "config");
    REQUIRE(!bad.ok());
    CHECK(bad.status().message().find("line 1, column 7") != std::string::npos);
}

// tests/unit/runtime/pipe/test_topology.py: axes pipe, data, model of 2 x 2 x 2.
TEST_CASE("mesh/ranks_are_counted_as_deepspeeds_topology_counts_them") {
    const Mesh mesh{{2, 1, 2, 2}};
    CHECK(mesh.ranks() == 8);
    for (int rank = 0; rank < 4; ++rank) CHECK(mesh.group(rank, MeshAxis::pipeline) == std::vector<int>{rank, rank + 4});
    CHECK(mesh.group(5, MeshAxis::data) == std::vector<int>{5, 7});
    CHECK(mesh.group(2, MeshAxis::tensor) == std::vector<int>{2, 3});  // pipe 0, data 1
    CHECK(at(mesh.place(3), MeshAxis::tensor) == 1);
    for (int rank = 0; rank < 8; ++rank) CHECK(mesh.rank(mesh.place(rank)) == rank);
}

// tests/unit/module_inject: parts differ by one unit at most, as there; here the larger ones come later, not first.
TEST_CASE("mesh/cuts_are_near_even_in_whole_units_of_every_period") {
    const auto sizes = [](const Cut& cut, int64_t full, int ranks) {
        std::vector<int64_t> all;
        for (int r = 0; r < ranks; ++r) all.push_back(cut.local(full, r, ranks));
        return all;
    };
    CHECK(sizes({0, 101, 101}, 101, 2) == std::vector<int64_t>{50, 51});
    CHECK(sizes({0, 384, 6}, 384, 4) == std::vector<int64_t>{64, 128, 64, 128});  // six heads stay whole
    CHECK(sizes({0, 3, 3}, 9, 4) == std::vector<int64_t>{0, 3, 3, 3});            // more ranks than heads, of queries, keys and values
    // gate and up, five rows each, side by side: both ranks have some of both.
    std::vector<std::vector<int64_t>> runs[2];
    for (int r = 0; r < 2; ++r)
        CutCopy({10, 4}, {0, 5, 5}, r, 2).runs([&](int64_t whole, int64_t part, int64_t n) { runs[r].push_back({whole, part, n}); });
    CHECK(runs[0] == std::vector<std::vector<int64_t>>{{0, 0, 8}, {20, 8, 8}});
    CHECK(runs[1] == std::vector<std::vector<int64_t>>{{8, 0, 12}, {28, 12, 12}});
}
