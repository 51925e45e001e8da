// lib/lr: schedules, loss scale and clipping against the traces of their reference implementations.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "base/json.h"
#include "lr/batch_growth.h"
#include "lr/clip.h"
#include "lr/loss_scale.h"
#include "lr/ramp.h"
#include "lr/schedule.h"

using namespace ds;

namespace {

Json trace(const char* name) {
    std::ifstream file(std::string(DSRT_TEST_DATA "/traces/") + name);
    std::stringstream text;
    text << file.rdbuf();
    auto parsed = parse_json(text.str(), name);
    REQUIRE(parsed.ok());
    return *parsed;
}

std::unique_ptr<Schedule> schedule(const std::string& type, const Json& params, double lr = 0.01, bool betas = false, size_t groups = 1) {
    auto made = make_schedule(type, params, {std::vector<double>(groups, lr), std::vector<double>(groups, 0.9), betas});
    INFO(made.status().message());
    REQUIRE(made.ok());
    return std::move(made).value();
}

std::string refusal(const std::string& type, const Json& params) {
    auto made = make_schedule(type, params, {{0.01}, {0.9}, true});
    REQUIRE(!made.ok());
    CHECK(made.status().code() == Code::E_CONFIG);
    return made.status().message();
}

bool close(double x, double y, double relative = 1e-12) { return std::abs(x - y) <= relative * std::abs(y); }

std::vector<double> rates(Schedule& s, int steps) {
    std::vector<double> list;
    for (int i = 0; i < steps; ++i) s.step(), list.push_back(s.lr(0));
    return list;
}

std::vector<double> scales(LossScaler scaler, const std::vector<int>& overflows) {
    std::vector<double> list;
    for (const int overflow : overflows) scaler.update(overflow), list.push_back(scaler.scale());
    return list;
}

}  // namespace

TEST_CASE("schedule/every_trace_is_followed") {
    size_t types = 0;
    for (const Json& t : trace("schedules.json")) {
        const std::string type = t["type"];
        CAPTURE(type);
        auto s = schedule(type, t["params"], t["base_lr"]);
        const Json &lr = t["lr_after_step"], momentum = t.value("momentum_after_step", Json::array());
        for (size_t i = 0; i < lr.size(); ++i) {
            CAPTURE(i);
            s->step();
            CHECK(close(s->lr(0), lr[i]));
            if (i < momentum.size()) CHECK(close(s->momentum(0), momentum[i]));
        }
        ++types;
    }
    CHECK(types == 14);
}

TEST_CASE("schedule/the_first_update_uses_what_the_constructor_leaves") {
    CHECK(schedule("", {})->lr(0) == 0.01);
    CHECK(schedule("WarmupLR", {{"warmup_min_lr", 0.5}})->lr(0) == 0.5);
    CHECK(schedule("WarmupDecayLR", {{"total_num_steps", 100}})->lr(0) == 0);
    CHECK(schedule("WarmupCosineLR", {{"total_num_steps", 100}, {"warmup_min_ratio", 0.2}})->lr(0) == 0);
    CHECK(schedule("OneCycle", {{"cycle_min_lr", 1e-5}, {"cycle_max_lr", 1e-2}})->lr(0) == 1e-5);
    CHECK(schedule("LRRangeTest", {})->lr(0) == 1e-3);
    CHECK(schedule("LinearLR", {})->lr(0) == doctest::Approx(0.01 / 3).epsilon(1e-15));
    CHECK(schedule("StepLR", {{"step_size", 3}})->lr(0) == 0.01);
    CHECK(schedule("WarmupLR", {{"last_batch_iteration", 5}})->lr(0) == 0.01);
}

TEST_CASE("schedule/one_step_as_deepspeeds_tests_expect") {
    const auto one = [](const char* type, Json params) { return rates(*schedule(type, params, 0.1), 1)[0]; };
    CHECK(close(one("LRRangeTest", {{"lr_range_test_min_lr", 0.001}, {"lr_range_test_step_size", 1000}}), 0.001001));
    CHECK(close(one("OneCycle", {{"cycle_min_lr", 0.01}, {"cycle_max_lr", 0.1}, {"cycle_first_step_size", 5}}), 0.028));
    auto warmup = schedule("WarmupLR", {{"warmup_num_steps", 10}}, 0.1);
    CHECK(close(rates(*warmup, 2)[1], 0.1 * std::log(2) / std::log(10), 1e-12));
}

TEST_CASE("schedule/warmup_reaches_its_maximum_and_decay_then_falls") {
    for (const int n : {10, 15, 19, 33})
        for (const char* type : {"log", "linear"}) {
            const Json params = {{"warmup_min_lr", 0.1}, {"warmup_max_lr", 0.2}, {"warmup_num_steps", n}, {"warmup_type", type}};
            const auto flat = rates(*schedule("WarmupLR", params), 3 * n);
            CHECK(flat[0] == 0.1);
            for (size_t i = static_cast<size_t>(n); i < flat.size(); ++i) CHECK(flat[i] == 0.2);
            Json decay = params;
            decay["total_num_steps"] = 2 * n;
            const auto falling = rates(*schedule("WarmupDecayLR", decay), 2 * n + 1);
            for (size_t i = static_cast<size_t>(n) + 1; i < falling.size(); ++i) CHECK(falling[i] < falling[i - 1]);
        }
    const Json log10 = {{"warmup_min_lr", 0}, {"warmup_max_lr", 1}, {"warmup_num_steps", 10}};
    const auto gamma = rates(*schedule("WarmupLR", log10), 10);
    CHECK(close(gamma[1], 0.30102999566398119));
    CHECK(close(gamma[4], 0.69897000433601886));
    CHECK(close(gamma[9], 1));
}

TEST_CASE("schedule/warmup_cosine_meets_its_corners") {
    struct Case {
        int total, warmup;
        double c, m;
    };
    for (const Case& x :
         {Case{100, 10, .1, .2}, Case{200, 20, .1, .2}, Case{500, 30, 0, .2}, Case{600, 300, .1, 0}, Case{600, 550, 0, 0}}) {
        const Json params = {
            {"total_num_steps", x.total}, {"warmup_num_steps", x.warmup}, {"cos_min_ratio", x.c}, {"warmup_min_ratio", x.m}};
        const auto lr = rates(*schedule("WarmupCosineLR", params, 0.0015), x.total + 5);
        CHECK(close(lr[0], 0.0015 * x.m));
        CHECK(close(lr[static_cast<size_t>(x.warmup) - 1], 0.0015));
        for (size_t i = static_cast<size_t>(x.total) - 1; i < lr.size(); ++i) CHECK(std::abs(lr[i] - 0.0015 * x.c) < 1e-15);
    }
    const auto flat =
        rates(*schedule("WarmupCosineLR", {{"total_num_steps", 10}, {"warmup_num_steps", 10}, {"cos_min_ratio", 0.3}}, 1.0), 14);
    for (size_t i = 10; i < flat.size(); ++i) CHECK(close(flat[i], 0.3));
}

TEST_CASE("schedule/one_cycle_peaks_falls_and_decays_and_cycles_the_first_beta") {
    const Json params = {{"cycle_min_lr", 1e-5},        {"cycle_max_lr", 1e-2},         {"decay_lr_rate", 1e-3},
                         {"cycle_first_step_size", 10}, {"cycle_second_step_size", 10}, {"decay_step_size", 1},
                         {"cycle_min_mom", 0.8},        {"cycle_max_mom", 0.95},        {"decay_mom_rate", 0.1}};
    auto s = schedule("OneCycle", params, 0.01, true);
    CHECK(s->momentum(0) == 0.8);
    CHECK(*s->second_beta() == 0.99);
    std::vector<double> lr{s->lr(0)}, momentum{s->momentum(0)};
    for (int i = 0; i < 25; ++i) s->step(), lr.push_back(s->lr(0)), momentum.push_back(s->momentum(0));
    CHECK(close(lr[10], 1e-2));
    CHECK(close(momentum[10], 0.8));
    CHECK(close(lr[20], 1e-5, 1e-9));
    CHECK(close(momentum[20], 0.95));
    for (size_t i = 11; i < lr.size(); ++i) CHECK(lr[i] < lr[i - 1]);
    CHECK(close(lr[22], 1e-5 / 1.002));
    CHECK(close(momentum[22], 0.95 * 1.2));
}

TEST_CASE("schedule/one_cycle_without_betas_leaves_momentum_and_says_so") {
    auto s = schedule("OneCycle", {{"cycle_min_lr", 0.1}, {"cycle_max_lr", 0.2}});
    CHECK(s->momentum(0) == 0.9);
    CHECK(!s->second_beta());
    REQUIRE(s->warnings().size() == 1);
    CHECK(s->warnings()[0] == "config: scheduler.params.cycle_momentum: the optimizer has no betas, so its momentum isn't cycled");
}

TEST_CASE("schedule/warmup_decay_rises_to_a_rate_of_its_own_and_says_so") {
    CHECK(schedule("WarmupDecayLR", {{"total_num_steps", 100}, {"warmup_num_steps", 10}, {"warmup_max_lr", 0.02}})->warnings().empty());
    const auto s = schedule("WarmupDecayLR", {{"total_num_steps", 100}, {"warmup_num_steps", 10}});
    REQUIRE(s->warnings().size() == 1);
    CHECK(s->warnings()[0].starts_with("config: scheduler.params.warmup_max_lr: is not given, so WarmupDecayLR rises to 0.001"));
}

TEST_CASE("schedule/linear_lr_reaches_its_end_and_stays") {
    const auto lr = rates(*schedule("LinearLR", {{"start_factor", 0.5}, {"end_factor", 1.0}, {"total_iters", 4}}, 0.05), 6);
    const double expected[] = {0.03125, 0.0375, 0.04375, 0.05, 0.05, 0.05};
    for (size_t i = 0; i < lr.size(); ++i) CHECK(close(lr[i], expected[i]));
    CHECK(rates(*schedule("LinearLR", {{"start_factor", 1.0}, {"end_factor", 0.0}, {"total_iters", 3}}), 3).back() ==
          doctest::Approx(0).epsilon(1e-15));
}

TEST_CASE("schedule/groups_keep_their_own_rates") {
    auto made = make_schedule(
        "WarmupLR", {{"warmup_min_lr", {0.1, 0.2}}, {"warmup_max_lr", {1.1, 2.2}}, {"warmup_num_steps", 4}, {"warmup_type", "linear"}},
        {{1, 1}, {}, true});
    REQUIRE(made.ok());
    (*made)->step(), (*made)->step();
    CHECK(close((*made)->lr(0), 0.35));
    CHECK(close((*made)->lr(1), 0.7));
    auto scaled = make_schedule("ExponentialLR", {{"gamma", 0.5}}, {{1, 0.1}, {}, true});
    (*scaled)->step();
    CHECK((*scaled)->lr(0) == 0.5);
    CHECK((*scaled)->lr(1) == 0.05);
}

TEST_CASE("schedule/state_restored_anywhere_continues_bit_equal") {
    for (const Json& t : trace("schedules.json")) {
        auto whole = schedule(t["type"], t["params"], t["base_lr"], true);
        for (int stop : {0, 3, 17}) {
            auto first = schedule(t["type"], t["params"], t["base_lr"], true), second = schedule(t["type"], t["params"], 0.5, true);
            for (int i = 0; i < stop; ++i) first->step();
            auto text = parse_json(first->state().dump(), "state");
            REQUIRE(second->restore(*text).ok());
            CHECK(second->lr(0) == first->lr(0));
            for (int i = 0; i < 30; ++i) {
                first->step(), second->step();
                CHECK(first->lr(0) == second->lr(0));
                CHECK(first->momentum(0) == second->momentum(0));
            }
        }
    }
    auto s = schedule("WarmupLR", {});
    CHECK(s->restore({{"lr", {1}}}).code() == Code::E_CORRUPT);
    CHECK(s->restore({{"last_batch_iteration", 3}, {"base_lr", {1, 2}}, {"lr", {1}}, {"momentum", {1}}}).code() == Code::E_CORRUPT);
}

TEST_CASE("schedule/a_rate_set_by_the_host_is_carried_on") {
    auto s = schedule("ExponentialLR", {{"gamma", 0.5}});
    s->set_lr(0, 0.4);
    CHECK(s->lr(0) == 0.4);
    s->step();
    CHECK(s->lr(0) == 0.2);
}

TEST_CASE("schedule/refusals_name_the_parameter_its_value_and_what_would_do") {
    CHECK(refusal("WarmUpLR", {}).starts_with("config: scheduler.type: unknown schedule WarmUpLR; did you mean WarmupLR?"));
    CHECK(refusal("WarmupLR", {{"warmup_num_steps", 0}}) == "config: scheduler.params.warmup_num_steps: must be an integer above 0, is 0");
    CHECK(refusal("WarmupLR", {{"warmup_num_steps", 2.5}}) ==
          "config: scheduler.params.warmup_num_steps: must be an integer above 0, is 2.5");
    CHECK(refusal("WarmupLR", {{"warmup_num_steps", "auto"}}) ==
          "config: scheduler.params.warmup_num_steps: must be an integer above 0, is \"auto\" (Hugging Face's Trainer fills in \"auto\")");
    CHECK(refusal("WarmupLR", {{"warmup_num_step", 2}})
              .starts_with("config: scheduler.params.warmup_num_step: unknown key; did you mean scheduler.params.warmup_num_steps?"));
    CHECK(refusal("WarmupLR", {{"warmup_max_lr", {1, 2}}}) ==
          "config: scheduler.params.warmup_max_lr: must be a number, or a list of 1 (one a parameter group), is [1,2]");
    CHECK(refusal("WarmupDecayLR", Json::object()) ==
          "config: scheduler.params.total_num_steps: WarmupDecayLR needs it; must be an integer");
    CHECK(refusal("OneCycle", {{"cycle_min_lr", 1}, {"cycle_max_lr", 2}, {"cycle_first_step_size", 0}, {"cycle_second_step_size", 0}}) ==
          "config: scheduler.params.cycle_first_step_size: must be a number above 0, is 0");
    refusal("OneCycle", {{"cycle_min_lr", 1}, {"cycle_max_lr", 2}, {"cycle_first_step_size", -1}});
    refusal("OneCycle", {{"cycle_min_lr", 1}, {"cycle_max_lr", 2}, {"cycle_first_step_size", 100}, {"cycle_second_step_size", -1}});
    refusal("LRRangeTest", {{"lr_range_test_step_size", 0}});
    refusal("LRRangeTest", {{"lr_range_test_step_size", -5}});
    refusal("LinearLR", {{"start_factor", 1.5}});
    refusal("StepLR", Json::array());
}

TEST_CASE("loss_scale/every_trace_is_followed_exactly") {
    for (const Json& t : trace("loss_scale.json")) {
        LossScaleOptions options{
            true, t["init_scale"], t["loss_scale_window"], t["hysteresis"], t["consecutive_hysteresis"], t["min_loss_scale"]};
        CHECK(scales(LossScaler(options), t["overflow"].get<std::vector<int>>()) == t["scale_after"].get<std::vector<double>>());
    }
}

TEST_CASE("loss_scale/deepspeeds_own_cases") {
    CHECK(scales(LossScaler({true, 256, 1000, 1, false, 1}), {1, 1, 1, 1, 1, 1, 1, 1}) == std::vector<double>{128, 64, 32, 16, 8, 4, 2, 1});
    CHECK(scales(LossScaler({true, 256, 2, 2, false, 1}), {1, 1, 1, 0, 0, 0, 1, 1}) ==
          std::vector<double>{256, 128, 64, 64, 64, 128, 128, 64});
}

TEST_CASE("loss_scale/stays_at_the_minimum_and_goes_on") {
    CHECK(scales(LossScaler({true, 2, 1000, 1, false, 1}), {1, 1, 1, 1}) == std::vector<double>{1, 1, 1, 1});
    CHECK(scales(LossScaler({true, 3, 1000, 1, false, 2}), {1, 1}) == std::vector<double>{2, 2});
}

TEST_CASE("loss_scale/a_static_scale_never_moves") {
    CHECK(scales(LossScaler({false, 128, 1, 1, false, 1}), {1, 0, 0, 1}) == std::vector<double>{128, 128, 128, 128});
}

TEST_CASE("loss_scale/state_restored_anywhere_continues_equal") {
    const Json t = trace("loss_scale.json")[0];
    const LossScaleOptions options{
        true, t["init_scale"], t["loss_scale_window"], t["hysteresis"], t["consecutive_hysteresis"], t["min_loss_scale"]};
    const auto overflow = t["overflow"].get<std::vector<int>>();
    LossScaler first(options);
    for (size_t i = 0; i < 20; ++i) first.update(overflow[i]);
    LossScaler second(options);
    REQUIRE(second.restore(parse_json(first.state().dump(), "state").value()).ok());
    const std::vector<int> rest(overflow.begin() + 20, overflow.end());
    CHECK(scales(first, rest) == scales(second, rest));
    CHECK(second.restore({{"scale", 0}}).code() == Code::E_CORRUPT);
    CHECK(second.restore(Json::array()).code() == Code::E_CORRUPT);
}

TEST_CASE("clip/every_trace_is_followed") {
    for (const Json& t : trace("clipping.json")) {
        double squares = 0;
        for (const Json& g : t["grads"])
            for (const double x : g) squares += x * x;
        const bool by_norm = t["kind"] == "norm";
        if (by_norm) CHECK(close(std::sqrt(squares), t["total_norm"]));
        const double factor = clip_factor(std::sqrt(squares), t["max"]);
        for (size_t i = 0; i < t["grads"].size(); ++i)
            for (size_t j = 0; j < t["grads"][i].size(); ++j) {
                const double g = t["grads"][i][j];
                CHECK(close(by_norm ? g * factor : clip_value(g, t["max"].get<double>()), t["clipped"][i][j]));
            }
    }
}

TEST_CASE("clip/zero_is_off_and_what_is_not_finite_is_left") {
    CHECK(clip_factor(5, 0) == 1);
    CHECK(clip_factor(INFINITY, 1) == 1);
    CHECK(clip_factor(0, 1) == 1);
    CHECK(clip_factor(std::sqrt(2.0), 0.1) == doctest::Approx(0.0707106).epsilon(1e-6));
    CHECK(std::isnan(clip_value(NAN, 1.0f)));
    float g[] = {-3, 0.5f, 3};
    clip_values(g, 0);
    CHECK(g[2] == 3);
    clip_values(g, 1);
    CHECK(g[0] == -1);
    CHECK(g[1] == 0.5f);
    CHECK(g[2] == 1);
}

// What changes as training goes on. efficiency.json holds what DeepSpeed's own schedulers answered (edaa7221: curriculum_scheduler.py,
// data_routing/scheduler.py, progressive_layer_drop.py), step by step.
TEST_CASE("ramp/deepspeeds_curricula_and_random_ltd_are_followed") {
    const Json t = trace("efficiency.json");
    size_t cases = 0;
    for (const auto& [list, names, values, first] :
         {std::tuple{"curriculum", &kCurriculumNames, "difficulties", 1}, {"random_ltd", &kRandomLtdNames, "kept", 0}})
        for (const Json& one : t[list]) {
            CAPTURE(one["section"].dump());
            const auto ramp = Ramp::make(one["section"], list, *names);
            REQUIRE_MESSAGE(ramp.ok(), ramp.status().message());
            for (size_t i = 0; i < one[values].size(); ++i) {
                CAPTURE(i);
                CHECK(ramp->at(static_cast<int64_t>(i) + first) == one[values][i]);
            }
            ++cases;
        }
    CHECK(cases == 10);
}

TEST_CASE("ramp/layer_theta_is_deepspeeds") {
    size_t values = 0;
    const Json t = trace("efficiency.json");
    for (const Json& one : t["layer_drop"])
        for (size_t i = 0; i < one["at_forward"].size(); ++i, ++values)
            CHECK(layer_theta(one["theta"], one["gamma"], static_cast<int64_t>(i)) == one["at_forward"][i]);
    CHECK(values == 80);
}

TEST_CASE("ramp/mistakes_are_named") {
    const auto refusal = [](Json change) {
        Json section = {{"min_difficulty", 8},
                        {"max_difficulty", 64},
                        {"schedule_type", "fixed_linear"},
                        {"schedule_config", {{"total_curriculum_step", 10}, {"difficulty_step", 8}}}};
        section.merge_patch(change);
        const auto made = Ramp::make(section, "c", kCurriculumNames);
        return made.ok() ? "" : std::string(made.status().message());
    };
    CHECK(refusal(Json::object()) == "");
    CHECK(refusal({{"min_difficulty", 0}}) == "config: c.min_difficulty: must be an integer of at least 1, is 0");
    CHECK(refusal({{"max_difficulty", nullptr}}) == "config: c.max_difficulty: must be an integer of at least 1, is absent");
    CHECK(refusal({{"max_difficulty", 4}}) == "config: c.max_difficulty: must be at least min_difficulty, which is 8; is 4");
    CHECK(refusal({{"schedule_type", "cubic"}}) ==
          "config: c.schedule_type: must be fixed_linear, fixed_root or fixed_discrete, is \"cubic\"");
    CHECK(refusal({{"schedule_type", "custom"}}).find("custom needs a Python function") != std::string::npos);
    CHECK(refusal({{"schedule_type", "fixed_root"}}) == "config: c.schedule_config.root_degree: must be a number above 0, is absent");
    CHECK(refusal({{"schedule_config", {{"total_step", 4}}}}) ==
          "config: c.schedule_config.total_step: unknown key; this schedule has total_curriculum_step, difficulty_step");
    CHECK(refusal({{"schedule_type", "fixed_discrete"},
                   {"schedule_config",
                    {{"total_curriculum_step", nullptr}, {"difficulty_step", nullptr}, {"difficulty", {1, 2}}, {"max_step", {1, 2}}}}}) ==
          "config: c.schedule_config.max_step: must have one entry less than difficulty, which has 2; it has 2");
    CHECK(
        refusal({{"schedule_type", "fixed_discrete"},
                 {"schedule_config",
                  {{"total_curriculum_step", nullptr}, {"difficulty_step", nullptr}, {"difficulty", {3, 3, 1}}, {"max_step", {1, 2}}}}}) ==
        "config: c.schedule_config.difficulty: must not fall before max_difficulty, which is 64; has 1 after 3");
}

namespace {

std::unique_ptr<BatchGrowth> growth(Json section, int64_t rows = 8, int64_t unit = 4) {
    auto made = BatchGrowth::make(section, rows, unit);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    return std::move(made).value();
}

}  // namespace

TEST_CASE("batch_growth/tables_of_steps_and_tokens") {
    auto steps = growth({{"by", "steps"}, {"schedule", {{2, 16}, {4, 40}}}});
    std::vector<int64_t> rows;
    for (int64_t s = 1; s <= 5; ++s) rows.push_back(steps->rows()), steps->step({.steps = s, .tokens = 0, .loss = {}, .noise = {}});
    CHECK(rows == std::vector<int64_t>{8, 8, 16, 16, 40});
    CHECK(steps->lr_factor() == 5);
    auto tokens = growth({{"by", "tokens"}, {"schedule", {{1000, 16}}}, {"lr_scaling", "sqrt"}});
    tokens->step({.steps = 500, .tokens = 999, .loss = {}, .noise = {}});
    CHECK(tokens->rows() == 8);
    tokens->step({.steps = 501, .tokens = 1000, .loss = {}, .noise = {}});
    CHECK(tokens->rows() == 16);
    CHECK(tokens->lr_factor() == std::sqrt(2.0));
    CHECK(growth({{"schedule", {{0, 12}}}})->rows() == 12);
    CHECK(growth({{"schedule", {{0, 12}}}, {"lr_scaling", "none"}})->lr_factor() == 1);
}

TEST_CASE("batch_growth/a_loss_that_stays_multiplies_the_batch") {
    auto g = growth({{"by", "plateau"}, {"max_batch_size", 30}, {"patience", 3}, {"smoothing", 0.0}, {"threshold", 0.1}, {"factor", 2.0}});
    const auto see = [&](double loss) {
        g->step({.steps = 1, .tokens = 1, .loss = loss, .noise = {}});
        return g->rows();
    };
    CHECK(see(4.0) == 8);
    CHECK(see(3.0) == 8);  // better
    CHECK(see(2.9) == 8);  // by too little
    CHECK(see(2.8) == 8);
    CHECK(see(2.75) == 16);  // three times
    CHECK(see(1.0) == 16);
    for (int i = 0; i < 3; ++i) see(1.0);
    CHECK(g->rows() == 28);  // 32, but 30 at most, in fours
    for (int i = 0; i < 9; ++i) see(1.0);
    CHECK(g->rows() == 28);
    see(NAN);
    CHECK(g->rows() == 28);
}

// Gradients g + n with |g|^2 = 0.25 and tr(S) = 12: of b rows the expected square is 0.25 + 12 / b, and the noise scale 48 rows.
TEST_CASE("batch_growth/the_batch_follows_the_noise_scale") {
    auto g = growth({{"by", "noise_scale"}, {"max_batch_size", 400}, {"patience", 2}, {"smoothing", 0.5}, {"factor", 4.0}});
    const auto sample = [](double rows) { return NoiseSample{4, 0.25 + 12.0 / 4, rows, 0.25 + 12.0 / rows}; };
    g->step({.steps = 1, .tokens = 1, .loss = {}, .noise = sample(8)});
    CHECK(g->noise_scale() == doctest::Approx(48).epsilon(1e-12));
    CHECK(g->rows() == 8);
    g->step({.steps = 2, .tokens = 1, .loss = {}, .noise = sample(8)});
    CHECK(g->rows() == 32);  // four times at most
    for (int i = 0; i < 2; ++i) g->step({.steps = 3, .tokens = 1, .loss = {}, .noise = sample(32)});
    CHECK(g->rows() == 48);
    for (int i = 0; i < 8; ++i) g->step({.steps = 3, .tokens = 1, .loss = {}, .noise = sample(48)});
    CHECK(g->rows() == 48);
    // Half of the means is the new sample: 0.5 * 12 + 0.5 * 36 over 0.25.
    auto mean = growth({{"by", "noise_scale"}, {"max_batch_size", 400}, {"smoothing", 0.5}});
    mean->step({.steps = 1, .tokens = 1, .loss = {}, .noise = sample(8)});
    mean->step({.steps = 1, .tokens = 1, .loss = {}, .noise = NoiseSample{4, 0.25 + 36.0 / 4, 8, 0.25 + 36.0 / 8}});
    CHECK(mean->noise_scale() == doctest::Approx((0.25 * 12 + 0.5 * 36) / (0.75 * 0.25)).epsilon(1e-12));
}

TEST_CASE("batch_growth/state_continues_exactly") {
    const Json section = {{"by", "plateau"}, {"max_batch_size", 64}, {"patience", 2}, {"smoothing", 0.7}};
    auto a = growth(section), b = growth(section);
    const auto loss = [](int i) { return 2 + std::sin(i * 1.7); };
    for (int i = 0; i < 9; ++i) a->step({.steps = i, .tokens = 0, .loss = loss(i), .noise = {}});
    REQUIRE(b->restore(Json::parse(a->state().dump())).ok());
    for (int i = 9; i < 30; ++i) {
        a->step({.steps = i, .tokens = 0, .loss = loss(i), .noise = {}});
        b->step({.steps = i, .tokens = 0, .loss = loss(i), .noise = {}});
        CHECK(a->state() == b->state());
    }
    CHECK(growth(section, 8, 8)
              ->restore({{"rows", 12}, {"loss", 0}, {"loss_weight", 0}, {"best", 0}, {"trace", 0}, {"square", 0}, {"waited", 0}})
              .code() == Code::E_STATE);
    CHECK(growth(section)->restore(Json::object()).code() == Code::E_CORRUPT);
}

TEST_CASE("batch_growth/mistakes_are_named") {
    const auto refusal = [](Json section) {
        const auto made = BatchGrowth::make(section, 8, 4);
        return made.ok() ? "" : std::string(made.status().message());
    };
    CHECK(refusal({{"by", "steps"}}) ==
          "config: batch_growth.schedule: needed where by is steps: a list of [steps, rows], from which on an update takes so many rows");
    CHECK(refusal({{"schedule", {{4, 18}}}}) ==
          "config: batch_growth.schedule: 18 rows are not a multiple of 4, the rows of a micro-batch of all data ranks");
    CHECK(refusal({{"schedule", {{4, 4}}}}) == "config: batch_growth.schedule: must grow, but [4,4] follows 8 rows");
    CHECK(refusal({{"schedule", {4}}}) == "config: batch_growth.schedule: an entry must be [steps, rows], two integers, is 4");
    CHECK(refusal({{"by", "plateau"}}) == "config: batch_growth.max_batch_size: needed where by is plateau: rows of an update at most");
    CHECK(refusal({{"by", "plateau"}, {"max_batch_size", 4}}) ==
          "config: batch_growth.max_batch_size: must be at least train_batch_size, which is 8; is 4");
    CHECK(refusal({{"by", "plateau"}, {"max_batch_size", 40}, {"schedule", {{4, 16}}}}).find("has no effect where by is plateau") !=
          std::string::npos);
    CHECK(refusal({{"by", "plateau"}, {"max_batch_size", 40}, {"factor", 1.0}}) == "config: batch_growth.factor: must be above 1, is 1");
}
