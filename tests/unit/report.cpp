// lib/telemetry: the report is well-formed, complete, and indifferent to what names contain.
#include "telemetry/report.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "telemetry/svg.h"

using namespace ds;

namespace {

// The first fault of a text as XML: tags that don't match, attributes without quotes, stray signs. Empty where there is none.
std::string fault_of(std::string_view page) {
    std::vector<std::string> open;
    for (size_t at = page.find("<html"); at < page.size();) {
        if (page[at] == '>') return fmt::format("stray > at {}", at);
        if (page[at] == '&') {
            const size_t end = page.find(';', at);
            if (end == page.npos || end - at > 7) return fmt::format("stray & at {}", at);
        }
        if (page[at] != '<') {
            ++at;
            continue;
        }
        size_t end = at + 1;
        for (bool quoted = false; end < page.size() && (quoted || page[end] != '>'); ++end) {
            if (page[end] == '"') quoted = !quoted;
            if (page[end] == '<') return fmt::format("< inside a tag at {}", end);
        }
        const std::string_view tag = page.substr(at + 1, end - at - 1);
        const std::string name(tag.substr(0, tag.find_first_of(" \n/", 1)));
        if (name.starts_with("/")) {
            if (open.empty() || "/" + open.back() != name) return fmt::format("{} closes {}", name, open.empty() ? "nothing" : open.back());
            open.pop_back();
        } else if (!tag.ends_with("/")) open.push_back(name);
        at = end + 1;
    }
    return open.empty() ? "" : open.back() + " stays open";
}

size_t count(std::string_view text, std::string_view part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
    return n;
}

ReportData sample() {
    ReportData data;
    data.title = "Sentiment";
    data.summary = {{"Tokens", "412,332"}, {"Test accuracy", "84.8 %"}};
    Chart loss{"Loss", "step", {{"train", {}, false}, {"evaluation", {{50, 0.625}, {100, 0.5}}, true}}};
    for (int i = 0; i <= 100; ++i) loss.series[0].points.push_back({static_cast<double>(i), 0.7 - i * 0.002});
    data.charts = {loss, {"Learning rate", "step", {{"group 0", {{0, 5e-5}, {100, 0}}, false}}}};
    data.memory = {{"wte", "weights", 0, 3 << 20, 0, 9}, {"h.0.mlp", "activations", 3 << 20, 1 << 20, 2, 6}};
    data.timeline = {{0, "matmul", 100, 400, "h.0.mlp, gemm_f32"}, {0, "gelu", 410, 500, ""}, {1, "matmul", 100, 390, ""}};
    return data;
}

}  // namespace

TEST_CASE("report/holds_every_number_and_is_well_formed") {
    const std::string page = html_report(sample());
    CHECK(fault_of(page) == "");
    for (const char* text : {
             "<dt>Tokens</dt><dd>412,332</dd>",
             "<dd>84.8 %</dd>",
             "<title>step 50\ntrain: 0.6\nevaluation: 0.625</title>",
             ">4e-5</text>",
             "<title>wte\nweights, 3 MiB\nbytes 0 to 3145728\nnodes 0 to 9</title>",
             "2 blocks in 4 MiB",
             "activations <b>1 MiB</b>",
             "<title>matmul: 300 \xc2\xb5s\nfrom 0 \xc2\xb5s to 300 \xc2\xb5s\nh.0.mlp, gemm_f32</title>",
             ">thread 1</text>",
             ">86.8 %</td>",
             "Threads were idle 15.0 %",
         })
        CHECK_MESSAGE(page.find(text) != page.npos, text);
    CHECK(count(page, "class=\"dot ") == 2);
    CHECK(count(page, "class=\"block ") == 2);
    CHECK(count(page, "class=\"bar ") == 3);
}

TEST_CASE("report/fetches_nothing_and_runs_nothing") {
    const std::string page = html_report(sample());
    for (const char* text : {"<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "javascript:"})
        CHECK(page.find(text) == page.npos);
    CHECK(page.find("default-src 'none'") != page.npos);
    CHECK(count(page, "http") == count(page, "http-equiv") + count(page, "http://www.w3.org/1999/xhtml"));
}

TEST_CASE("report/hostile_texts_are_shown_and_not_obeyed") {
    const std::string hostile = "</title><script>alert('1')</script>\" onload=\"x & \xff\x01 caf\u00e9";
    const std::string shown =
        "&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onload=&quot;x &amp; \xef\xbf\xbd\xef\xbf\xbd caf\u00e9";
    CHECK(svg::escaped(hostile) == shown);
    ReportData data = sample();
    data.title = hostile;
    data.summary.push_back({hostile, hostile});
    data.charts.push_back({hostile, hostile, {{hostile, {{0, 1}, {1, 2}}, true}}});
    data.memory.push_back({hostile, hostile, 0, 100, 0, 1});
    data.timeline.push_back({2, hostile, 0, 1e6, hostile});
    const std::string page = html_report(data);
    CHECK(fault_of(page) == "");
    CHECK(page.find("<script") == page.npos);
    CHECK(count(page, shown) >= 14);
}

TEST_CASE("report/odd_data_still_gives_a_page") {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();
    CHECK(fault_of(html_report({})) == "");
    ReportData data;
    data.charts = {{"none", "step", {}},
                   {"empty", "step", {{"a", {}, false}}},
                   {"one", "step", {{"a", {{3, 0}}, false}}},
                   {"broken", "step", {{"a", {{0, kNan}, {1, kInf}, {2, -kInf}, {3, 1}, {4, 1}}, false}}},
                   {"nothing", "step", {{"a", {{0, kNan}}, true}}},
                   {"huge", "step", {{"a", {{-1e300, -1e300}, {1e300, 1e300}}, false}}}};
    data.memory = {{"", "", 0, 0, 0, 0}};
    data.timeline = {{-1, "", 5, 5, ""}, {-1, "back", 5, 4, ""}};
    const std::string page = html_report(data);
    CHECK(fault_of(page) == "");
    CHECK(page.find("=\"nan") == page.npos);
    CHECK(page.find("=\"inf") == page.npos);
}

TEST_CASE("report/long_runs_stay_small_pages_that_keep_their_spikes") {
    ReportData data;
    Chart loss{"Loss", "step", {{"train", {}, false}}};
    for (int i = 0; i < 300000; ++i) loss.series[0].points.push_back({static_cast<double>(i), i == 123456 ? 97.5 : 2 + 0.1 * std::sin(i)});
    data.charts = {loss};
    for (int i = 0; i < 50000; ++i) data.memory.push_back({"b", "scratch", i * 64, 64, i, i + 1});
    for (int i = 0; i < 50000; ++i) data.timeline.push_back({i % 4, "k" + std::to_string(i % 200), i * 10.0, i * 10.0 + i % 7, ""});
    const std::string page = html_report(data);
    CHECK(fault_of(page) == "");
    CHECK(page.size() < 4'000'000);
    CHECK(page.find(">100</text>") != page.npos);  // the axis reaches the spike
    CHECK(page.find("The 44000 smallest blocks are not drawn.") != page.npos);
    CHECK(page.find("The 42000 shortest bars are not drawn.") != page.npos);
    CHECK(page.find("<td>170 others</td>") != page.npos);
}

TEST_CASE("report/numbers_are_written_for_people") {
    CHECK(svg::number(0) == "0");
    CHECK(svg::number(0.00005) == "5e-5");
    CHECK(svg::number(0.00125) == "0.00125");
    CHECK(svg::number(-1234567) == "-1,234,567");
    CHECK(svg::number(1234.56) == "1,234.6");
    CHECK(svg::number(2.5e12) == "2.5e12");
    CHECK(svg::bytes(0) == "0 bytes");
    CHECK(svg::bytes(1536) == "1.5 KiB");
    CHECK(svg::bytes(512.0 * (1 << 20)) == "512 MiB");
    CHECK(svg::duration_us(1500) == "1.5 ms");
    const svg::Scale scale{0, 1, 0, 100};
    CHECK(scale.ticks(scale.step(5)) == std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1});
}
