// lib/base: conversions between element types and the JSON limits.
#include <doctest/doctest.h>

#include <cmath>

#include "base/dtype.h"
#include "base/json.h"

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
