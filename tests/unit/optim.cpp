// lib/optim: the reference's traces, and what an engine relies on: any pieces, any team, low-precision copies, clipping, messages.
#include <doctest/doctest.h>

#include <barrier>
#include <bit>
#include <cstring>
#include <random>
#include <thread>

#include "base/file.h"
#include "kernels/cpu/optim.h"
#include "optim/optimizer.h"

using namespace ds;

namespace {

using Floats = std::vector<float>;

struct Problem {
    ParamTraits traits;
    Floats weight, gradient;
    std::vector<Floats> state;
    std::vector<uint16_t> low;

    Problem(const Optimizer& optimizer, Shape shape, uint32_t seed = 1) : traits{std::move(shape), true} {
        std::mt19937 rng(seed);
        std::normal_distribution<float> normal;
        weight.resize(static_cast<size_t>(elements(traits.shape)));
        gradient = weight;
        for (float& x : weight) x = normal(rng);
        for (float& x : gradient) x = normal(rng);
        low.assign(weight.size(), 0);
        for (const StateDef& def : optimizer.states(traits)) state.emplace_back(static_cast<size_t>(elements(def.shape)), def.initial);
    }
    void new_gradient(uint32_t seed) {
        std::mt19937 rng(seed);
        std::normal_distribution<float> normal;
        for (float& x : gradient) x = normal(rng);
    }
};

std::unique_ptr<Optimizer> make(const char* type, const Json& params = Json::object()) {
    auto made = make_optimizer(type, params);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    return std::move(made).value();
}

Hyper hyper_of(const Optimizer& optimizer, const ParamTraits& traits, int64_t step) {
    const Defaults defaults = optimizer.defaults(traits);
    Hyper hyper;
    hyper.lr = defaults.lr;
    hyper.weight_decay = defaults.weight_decay;
    hyper.step = step;
    return hyper;
}

// One update by a team, with a barrier between phases and rubbish in scratch.
void update(const Optimizer& optimizer, Problem& p, const Hyper& hyper, int threads, int64_t begin = 0, int64_t end = -1,
            const Rounding* rounding = nullptr) {
    std::vector<float*> state;
    for (Floats& s : p.state) state.push_back(s.data() + (begin < static_cast<int64_t>(s.size()) ? begin : 0));
    const ParamView view{p.weight.data() + begin,
                         p.gradient.data() + begin,
                         state.data(),
                         (end < 0 ? static_cast<int64_t>(p.weight.size()) : end) - begin,
                         p.low.data() + begin,
                         DType::bf16,
                         rounding};
    std::vector<std::byte> storage(static_cast<size_t>(optimizer.scratch_bytes(p.traits, threads)) + 128, std::byte{0xFF});
    auto* scratch = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(storage.data()) + 63) / 64 * 64);
    std::barrier barrier(threads);
    const auto work = [&](int rank) {
        for (int phase = 0; phase < optimizer.phases(p.traits); ++phase) {
            optimizer.update(phase, p.traits, view, hyper, scratch, Team{rank, threads});
            barrier.arrive_and_wait();
        }
    };
    std::vector<std::thread> team;
    for (int rank = 1; rank < threads; ++rank) team.emplace_back(work, rank);
    work(0);
    for (std::thread& thread : team) thread.join();
}

const char* const kAll[] = {"Adam", "AdamW", "SGD", "Adagrad", "RMSprop", "Lion", "Lamb", "Muon", "Adafactor"};

Json params_for(const std::string& type) {
    Json params = {{"lr", 0.01}, {"weight_decay", 0.1}};
    if (type == "SGD" || type == "RMSprop") params["momentum"] = 0.9;
    if (type == "RMSprop") params["centered"] = true;
    return params;
}

}  // namespace

TEST_CASE("optim/follows_every_trace_of_the_reference") {
    const auto text = read_file(std::string(DSRT_TEST_DATA) + "/traces/optimizers.json");
    REQUIRE(text.ok());
    const Json traces = Json::parse(text.value());
    for (const Json& trace : traces) {
        Json params = trace["params"];
        if (params.contains("eps2")) {  // the trace's own words for torch's eps
            params["eps"] = params["eps2"];
            params.erase("eps2");
            params.erase("note");
        }
        INFO(trace["type"].dump() << " " << params.dump());
        const auto optimizer = make(trace["type"].get<std::string>().c_str(), params);
        Problem p(*optimizer, trace["shape"].get<Shape>());
        p.weight = trace["start"].get<Floats>();
        for (size_t step = 0; step < trace["grads"].size(); ++step) {
            p.gradient = trace["grads"][step].get<Floats>();
            update(*optimizer, p, hyper_of(*optimizer, p.traits, static_cast<int64_t>(step) + 1), 1);
            const auto expected = trace["param_after"][step].get<std::vector<double>>();
            for (size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(p.weight[i] - expected[i]) < 4e-7 * (1 + std::abs(expected[i])));
        }
    }
}

TEST_CASE("optim/every_team_size_gives_the_same_bits") {
    for (const char* type : kAll)
        for (const Shape& shape : {Shape{37, 211}, Shape{300, 130}, Shape{20011}, Shape{3, 40, 50}}) {
            const auto optimizer = make(type, params_for(type));
            Problem one(*optimizer, shape);
            std::vector<Problem> others(2, one);
            for (int step = 1; step <= 3; ++step) {
                const Hyper hyper = hyper_of(*optimizer, one.traits, step);
                update(*optimizer, one, hyper, 1);
                one.new_gradient(static_cast<uint32_t>(step));
                for (int i = 0; i < 2; ++i) {
                    Problem& p = others[static_cast<size_t>(i)];
                    update(*optimizer, p, hyper, i + 2);
                    p.new_gradient(static_cast<uint32_t>(step));
                    INFO(type << " " << to_string(shape) << " team of " << i + 2);
                    CHECK(p.weight == one.weight);
                    CHECK(p.state == one.state);
                    CHECK(p.low == one.low);
                }
            }
            for (float x : one.weight) REQUIRE(std::isfinite(x));
        }
}

TEST_CASE("optim/elementwise_rules_may_be_applied_piece_by_piece") {
    for (const char* type : kAll) {
        const auto optimizer = make(type, params_for(type));
        Problem whole(*optimizer, {5003});
        if (!optimizer->elementwise(whole.traits)) continue;
        Problem pieces = whole;
        for (int step = 1; step <= 2; ++step) {
            const Hyper hyper = hyper_of(*optimizer, whole.traits, step);
            update(*optimizer, whole, hyper, 1);
            const int64_t cuts[] = {0, 1, 18, 1042, 3333, 5003};
            for (int i = 0; i < 5; ++i) update(*optimizer, pieces, hyper, 1, cuts[i], cuts[i + 1]);
        }
        INFO(type);
        CHECK(pieces.weight == whole.weight);
        CHECK(pieces.state == whole.state);
        CHECK(pieces.low == whole.low);
    }
}

TEST_CASE("optim/the_low_copy_is_the_rounded_weight") {
    for (const char* type : kAll) {
        const auto optimizer = make(type, params_for(type));
        Problem p(*optimizer, {33, 47});
        update(*optimizer, p, hyper_of(*optimizer, p.traits, 1), 2);
        for (size_t i = 0; i < p.weight.size(); ++i) REQUIRE(p.low[i] == to_bf16(p.weight[i]).bits);
    }
    const auto optimizer = make("AdamW");
    Problem p(*optimizer, {100});
    std::vector<float*> state = {p.state[0].data(), p.state[1].data()};
    update_alone(*optimizer, p.traits, {p.weight.data(), p.gradient.data(), state.data(), 100, p.low.data(), DType::f16},
                 hyper_of(*optimizer, p.traits, 1));
    for (size_t i = 0; i < 100; ++i) REQUIRE(p.low[i] == to_f16(p.weight[i]).bits);
}

TEST_CASE("optim/the_low_copy_may_be_rounded_by_chance") {
    const Rounding draws{.seed = 7, .step = 3, .salt = 5};
    const auto expected = [&](float x, int64_t i) {
        return bf16_by_chance(std::bit_cast<uint32_t>(x),
                              uniform_draw(Runtime{draws.seed, draws.step}, draws.salt, static_cast<uint64_t>(i)));
    };
    for (const char* type : kAll) {
        INFO(type);
        const auto optimizer = make(type, params_for(type));
        Problem p(*optimizer, {33, 47}), pieces = p;
        const Hyper hyper = hyper_of(*optimizer, p.traits, 1);
        update(*optimizer, p, hyper, 2, 0, -1, &draws);
        for (size_t i = 0; i < p.weight.size(); ++i) REQUIRE(p.low[i] == expected(p.weight[i], static_cast<int64_t>(i)));
        if (!optimizer->elementwise(p.traits)) continue;
        const int64_t cuts[] = {0, 1, 18, 1042, 33 * 47};
        for (int i = 0; i < 4; ++i) {
            Rounding here = draws;
            here.first = cuts[i];
            update(*optimizer, pieces, hyper, 1, cuts[i], cuts[i + 1], &here);
        }
        CHECK(pieces.low == p.low);
    }
    Floats x(300);
    for (size_t i = 0; i < x.size(); ++i) x[i] = 1.0f + 0.001f * static_cast<float>(i);
    std::vector<uint16_t> low(x.size());
    const int64_t first = (int64_t{1} << 32) - 70;  // blocks of draws whose upper half changes
    cpu::bf16_by_chance(x.data(), 300, {draws.seed, draws.step, draws.salt, first}, low.data());
    for (size_t i = 0; i < x.size(); ++i) REQUIRE(low[i] == expected(x[i], first + static_cast<int64_t>(i)));
}

// The draws are always the same ones, so this passes always or never.
TEST_CASE("optim/rounding_by_chance_has_the_number_as_its_expectation") {
    constexpr int kDraws = 1 << 14;
    for (const float number : {1.003f, -1.003f, 1.0039f, 3.1415926f, -2.7e-5f, 1.7e30f, 6e-41f}) {
        const Floats x(kDraws, number);
        std::vector<uint16_t> low(kDraws);
        cpu::bf16_by_chance(x.data(), kDraws, {.seed = 1, .step = 2, .salt = 3, .first = 0}, low.data());
        const uint32_t bits = std::bit_cast<uint32_t>(number), down = bits & 0xffff0000u, up = down + 0x10000u;
        const double least = std::bit_cast<float>(down), place = static_cast<double>(std::bit_cast<float>(up)) - least,
                     share = (bits & 0xffffu) / 65536.0;
        double sum = 0;
        for (const uint16_t y : low) {
            REQUIRE((y == down >> 16 || y == up >> 16));
            sum += y == up >> 16;
        }
        INFO(number);
        CHECK(std::abs(sum / kDraws - share) < 4 * std::sqrt(share * (1 - share) / kDraws));  // of standard deviations
        CHECK(std::abs(least + place * sum / kDraws - static_cast<double>(number)) < 0.02 * std::abs(place));
    }
    const float inf = std::numeric_limits<float>::infinity();
    const float fixed[] = {0.0f, -0.0f, 1.0f, -2.5f, inf,  -inf, std::bit_cast<float>(0x7f800001u), 1.0f, 1.0f, 1.0f,
                           1.0f, 1.0f,  1.0f, 1.0f,  1.0f, 1.0f};
    for (uint64_t step = 0; step < 50; ++step) {
        std::vector<uint16_t> low(256);
        Floats x;
        for (int i = 0; i < 256; ++i) x.push_back(fixed[i % 16]);
        cpu::bf16_by_chance(x.data(), 256, {.seed = 1, .step = step, .salt = 3, .first = 0}, low.data());
        for (size_t i = 0; i < 256; ++i) {
            const float y = std::bit_cast<float>(static_cast<uint32_t>(low[i]) << 16);
            if (std::isnan(x[i])) REQUIRE(std::isnan(y));
            else REQUIRE(std::bit_cast<uint32_t>(y) == std::bit_cast<uint32_t>(x[i]));
        }
    }
}

TEST_CASE("optim/gradients_are_scaled_then_clipped_by_value") {
    for (const char* type : kAll) {
        const auto optimizer = make(type, params_for(type));
        Problem plain(*optimizer, {20, 30});
        Problem scaled = plain;
        for (size_t i = 0; i < plain.gradient.size(); ++i) {
            scaled.gradient[i] = plain.gradient[i] * 1024;
            plain.gradient[i] = std::fmax(-0.5f, std::fmin(0.5f, plain.gradient[i]));
        }
        Hyper hyper = hyper_of(*optimizer, plain.traits, 1);
        update(*optimizer, plain, hyper, 1);
        hyper.grad_scale = 1.0 / 1024;
        hyper.clip_value = 0.5;
        update(*optimizer, scaled, hyper, 1);
        INFO(type);
        CHECK(scaled.weight == plain.weight);
    }
}

TEST_CASE("optim/lamb_matches_its_formula") {
    for (const bool inside : {false, true}) {
        const auto optimizer = make("Lamb", {{"weight_decay", 0.05}, {"eps_inside_sqrt", inside}, {"max_coeff", 3.0}});
        Problem p(*optimizer, {40, 60});
        std::vector<double> w(p.weight.begin(), p.weight.end()), m(w.size()), v(w.size()), u(w.size());
        for (int t = 1; t <= 3; ++t) {
            double ww = 0, uu = 0;
            for (size_t i = 0; i < w.size(); ++i) {
                m[i] = 0.9 * m[i] + 0.1 * p.gradient[i];
                v[i] = 0.999 * v[i] + 0.001 * p.gradient[i] * p.gradient[i];
                u[i] = m[i] / (inside ? std::sqrt(v[i] + 1e-8) : std::sqrt(v[i]) + 1e-8) + 0.05 * w[i];
                ww += w[i] * w[i], uu += u[i] * u[i];
            }
            const double trust = std::min(3.0, std::max(0.01, std::sqrt(ww / uu))),
                         step = 1e-3 * std::sqrt(1 - std::pow(0.999, t)) / (1 - std::pow(0.9, t)) * trust;
            for (size_t i = 0; i < w.size(); ++i) w[i] -= step * u[i];
            update(*optimizer, p, hyper_of(*optimizer, p.traits, t), 2);
            for (size_t i = 0; i < w.size(); ++i) REQUIRE(p.weight[i] == doctest::Approx(w[i]).epsilon(2e-6));
            p.new_gradient(static_cast<uint32_t>(t));
        }
    }
}

TEST_CASE("optim/muon_makes_singular_values_near_one_whatever_the_shape") {
    for (const Shape& shape : {Shape{64, 16}, Shape{16, 64}, Shape{48, 48}}) {
        const auto optimizer = make("Muon", {{"lr", 1.0}});
        Problem p(*optimizer, shape);
        std::fill(p.weight.begin(), p.weight.end(), 0.0f);
        update(*optimizer, p, hyper_of(*optimizer, p.traits, 1), 2);
        const int64_t rows = shape[0], columns = shape[1];
        double squares = 0;
        for (float x : p.weight) squares += x * x;
        const double side = static_cast<double>(std::min(rows, columns)),
                     size = std::max(1.0, static_cast<double>(rows) / static_cast<double>(columns));
        CHECK(squares / size / side > 0.5);  // the sum of squared singular values, each about 0.7 to 1.2
        CHECK(squares / size / side < 1.4);
    }
    const auto optimizer = make("Muon");
    CHECK(optimizer->states({{8, 8}, true}).size() == 1);
    CHECK(optimizer->states({{8, 8}, false}).size() == 2);
    CHECK(optimizer->states({{8}, true}).size() == 2);
    CHECK(optimizer->defaults({{8, 8}, true}).lr == 0.02);
    CHECK(optimizer->defaults({{8}, true}).lr == 3e-4);
}

TEST_CASE("optim/adafactor_keeps_a_row_and_a_column") {
    const auto optimizer = make("Adafactor");
    const auto matrix = optimizer->states({{6, 9}}), cube = optimizer->states({{2, 6, 9}}), vector = optimizer->states({{9}});
    CHECK(matrix[0].shape == Shape{6, 1});
    CHECK(matrix[1].shape == Shape{1, 9});
    CHECK(cube[0].shape == Shape{2, 6, 1});
    CHECK(cube[1].shape == Shape{2, 1, 9});
    CHECK(vector[0].shape == Shape{9});
    // A batch of equal matrices moves as one such matrix would, since row means and rms are the same.
    Problem one(*optimizer, {30, 20}), two(*optimizer, {2, 30, 20});
    for (size_t i = 0; i < 600; ++i)
        two.weight[i] = two.weight[600 + i] = one.weight[i], two.gradient[i] = two.gradient[600 + i] = one.gradient[i];
    update(*optimizer, one, hyper_of(*optimizer, one.traits, 1), 1);
    update(*optimizer, two, hyper_of(*optimizer, two.traits, 1), 1);
    for (size_t i = 0; i < 600; ++i) REQUIRE(two.weight[600 + i] == doctest::Approx(one.weight[i]).epsilon(1e-6));
}

// With beta2_decay 0 the variance is the last square itself, whatever came before, and every move has one size.
TEST_CASE("optim/a_small_gradient_behind_a_large_one_is_not_lost") {
    const auto optimizer = make("Adafactor", {{"beta2_decay", 0.0}});
    for (const Shape& shape : {Shape{40}, Shape{3, 20}}) {
        Problem p(*optimizer, shape), fresh = p;
        for (float& g : p.gradient) g *= 1e3f;
        update(*optimizer, p, hyper_of(*optimizer, p.traits, 1), 1);
        p.weight = fresh.weight;
        p.gradient = fresh.gradient;
        for (size_t i = 0; i < p.gradient.size(); ++i) fresh.gradient[i] = p.gradient[i] *= 1e-3f;
        update(*optimizer, p, hyper_of(*optimizer, p.traits, 2), 1);
        update(*optimizer, fresh, hyper_of(*optimizer, p.traits, 2), 1);
        for (size_t i = 0; i < p.weight.size(); ++i) REQUIRE(p.weight[i] == fresh.weight[i]);
    }
}

TEST_CASE("optim/schedules_may_set_momentum") {
    const auto slow = make("AdamW", {{"betas", {0.5, 0.99}}}), fast = make("AdamW", {{"betas", {0.9, 0.999}}});
    Problem a(*slow, {50}), b(*fast, {50});
    Hyper hyper = hyper_of(*slow, a.traits, 2);
    update(*slow, a, hyper, 1);
    hyper.momentum = 0.5;
    hyper.beta2 = 0.99;
    update(*fast, b, hyper, 1);
    CHECK(a.weight == b.weight);
}

TEST_CASE("optim/lion_leaves_weights_that_never_had_a_gradient") {
    const auto optimizer = make("Lion");
    Problem p(*optimizer, {20});
    p.gradient[3] = 0;
    const float before = p.weight[3];
    update(*optimizer, p, hyper_of(*optimizer, p.traits, 1), 1);
    CHECK(p.weight[3] == before);
}

TEST_CASE("optim/not_a_number_reaches_the_weight") {
    for (const char* type : {"AdamW", "SGD", "Lion", "RMSprop", "Adagrad"}) {
        const auto optimizer = make(type, params_for(type));
        Problem p(*optimizer, {20});
        p.gradient[3] = NAN;
        Hyper hyper = hyper_of(*optimizer, p.traits, 1);
        hyper.clip_value = 1;
        update(*optimizer, p, hyper, 1);
        INFO(type);
        CHECK(std::isnan(p.weight[3]));
        CHECK(std::isfinite(p.weight[4]));
    }
}

TEST_CASE("optim/squares_are_exact_and_show_infinities") {
    std::mt19937 rng(3);
    std::normal_distribution<float> normal;
    Floats x(100003);
    double expected = 0;
    for (float& v : x) v = normal(rng), expected += static_cast<double>(v) * v;
    const auto total = [&](int threads) {
        std::vector<double> partial(static_cast<size_t>(cpu::squares_blocks(static_cast<int64_t>(x.size()))));
        for (int rank = 0; rank < threads; ++rank)
            cpu::squares(x.data(), static_cast<int64_t>(x.size()), partial.data(), Team{rank, threads});
        double sum = 0;
        for (double s : partial) sum += s;
        return sum;
    };
    CHECK(total(1) == doctest::Approx(expected).epsilon(1e-13));
    CHECK(total(1) == total(2));
    CHECK(total(1) == total(3));
    x[5] = 3e38f;
    CHECK(std::isfinite(total(1)));
    x[70000] = INFINITY;
    CHECK(!std::isfinite(total(2)));
    x[70000] = NAN;
    CHECK(!std::isfinite(total(2)));
    Floats y = {1, 2, 3, 4, 5};
    cpu::scale_in_place(y.data(), 5, 0.5f, Team{});
    CHECK(y == Floats{0.5f, 1, 1.5f, 2, 2.5f});
}

TEST_CASE("optim/messages_name_the_key_and_what_is_accepted") {
    const auto message = [](const char* type, const Json& params) {
        const auto made = make_optimizer(type, params);
        REQUIRE(!made.ok());
        return std::string(code_name(made.status().code())) + " " + made.status().message();
    };
    CHECK(make_optimizer("adamw", Json()).ok());
    CHECK(make_optimizer("ADAM", {{"lr", "auto"}, {"torch_adam", true}}).ok());
    CHECK(message("AdamV", Json::object()).find("did you mean Adam") != std::string::npos);
    CHECK(message("OneBitAdam", Json::object()).find("DS_E_UNSUPPORTED") == 0);
    CHECK(message("AdamW", {{"beta", 1}}).find("config: optimizer.params.beta: unknown key; did you mean optimizer.params.betas?") !=
          std::string::npos);
    CHECK(message("AdamW", {{"betas", {0.9, 1.0}}}) ==
          "DS_E_CONFIG config: optimizer.params.betas: must be two numbers of at least 0 and below 1, is [0.9,1.0]");
    CHECK(message("AdamW", {{"lr", -1}}) == "DS_E_CONFIG config: optimizer.params.lr: must be a number of at least 0, is -1");
    CHECK(message("AdamW", {{"lr", "fast"}}).find("must be a number") != std::string::npos);
    CHECK(message("AdamW", {{"amsgrad", true}}).find("DS_E_UNSUPPORTED config: optimizer.params.amsgrad: true is not built") == 0);
    CHECK(message("Adam", {{"max_grad_norm", 1}}).find("use gradient_clipping") != std::string::npos);
    CHECK(message("SGD", {{"nesterov", true}}).find("needs a momentum above 0") != std::string::npos);
    CHECK(message("Muon", {{"ns_method", "qr"}}).find("must be one of gram, standard") != std::string::npos);
    CHECK(message("SGD", Json::array()).find("must be an object") != std::string::npos);
}
