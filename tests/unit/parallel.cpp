// lib/parallel: timetables (their tables, bubbles, memory, and that no rank waits for ever), and the shares of a graph that stages get.
#include <doctest/doctest.h>

#include <array>
#include <deque>
#include <set>

#include "ir/text.h"
#include "parallel/partition.h"
#include "parallel/timetable.h"

using namespace ds;

namespace {

struct TableKind {
    const char* name;
    int chunks;
};
constexpr TableKind kKinds[] = {{"gpipe", 1}, {"1f1b", 1}, {"zb-h1", 1}, {"interleaved", 2}, {"interleaved", 3}};

Timetable table_of(const TableKind& kind, int ranks, int micros, int active = 0) {
    return make_timetable({.kind = kind.name, .ranks = ranks, .chunks = kind.chunks, .micros = micros, .active = active});
}

// A communicator without threads: a rank runs until it must wait for a message; messages carry the micro-batch that they are of.
class VirtualRanks {
public:
    explicit VirtualRanks(const Timetable& table) : table_(table), next_(table.turns.size(), 0) {}

    // Why it does not come to its end, or nothing.
    std::string run() {
        for (bool moved = true; std::exchange(moved, false);)
            for (size_t r = 0; r < next_.size(); ++r)
                while (next_[r] < table_.turns[r].size()) {
                    rank_ = static_cast<int>(r);
                    const Status status = walk(table_, {table_.turns[r][next_[r]]}, *this);
                    if (status.code() == Code::E_TIMEOUT) break;
                    if (!status.ok()) return status.message();
                    ++next_[r], moved = true;
                }
        for (size_t r = 0; r < next_.size(); ++r)
            if (next_[r] < table_.turns[r].size()) return fmt::format("rank {} waits for ever before turn {}", r, next_[r]);
        for (const auto& [key, letters] : mail_)
            if (!letters.empty()) return "a message was never read";
        return {};
    }

    Status receive(int from, int64_t tag, const Turn& turn) {
        auto& letters = mail_[{from, rank_, tag}];
        if (letters.empty()) return fail(Code::E_TIMEOUT, "nothing came yet");
        if (letters.front() != turn.micro) return fail(Code::E_COMM, "micro-batch {} came where {} was due", letters.front(), turn.micro);
        letters.pop_front();
        return ok();
    }
    Status run(const Turn& turn) {
        if (!done_.insert({static_cast<int>(turn.work), turn.stage, turn.micro}).second) return fail(Code::E_INTERNAL, "a turn ran twice");
        if (turn.work != Work::forward && !done_.count({static_cast<int>(turn.work) - 1, turn.stage, turn.micro}))
            return fail(Code::E_INTERNAL, "a turn ran too early");
        // Gradients are added in the order of micro-batches: so every layout adds in one order.
        if (turn.work != Work::forward && turn.micro > 0 && !done_.count({static_cast<int>(turn.work), turn.stage, turn.micro - 1}))
            return fail(Code::E_INTERNAL, "out of order");
        return ok();
    }
    Status send(int to, int64_t tag, const Turn& turn) {
        mail_[{rank_, to, tag}].push_back(turn.micro);
        return ok();
    }

private:
    const Timetable& table_;
    std::vector<size_t> next_;
    std::map<std::tuple<int, int, int64_t>, std::deque<int>> mail_;
    std::set<std::array<int, 3>> done_;
    int rank_ = 0;
};

}  // namespace

TEST_CASE("timetable/no_rank_waits_for_ever_up_to_8_stages_and_16_micro_batches") {
    int tables = 0;
    for (const TableKind& kind : kKinds)
        for (int ranks = 2; ranks <= 8; ++ranks)
            for (int micros = 1; micros <= 16; ++micros)
                for (const int active : {0, 1, 2, 3, 5, 8}) {
                    const Timetable table = table_of(kind, ranks, micros, active);
                    const std::string why = VirtualRanks(table).run();
                    if (!why.empty())
                        FAIL_CHECK(kind.name, " x ", kind.chunks, ", ", ranks, " ranks, ", micros, " micro-batches, ", active,
                                   " active: ", why);
                    size_t turns = 0;
                    for (const auto& list : table.turns) turns += list.size();
                    REQUIRE(turns == static_cast<size_t>(table.stages() * micros * (table.splits ? 3 : 2)));
                    ++tables;
                }
    CHECK(tables == 5 * 7 * 16 * 6);
}

TEST_CASE("timetable/a_table_in_the_wrong_order_is_found") {
    Timetable table = table_of({"1f1b", 1}, 2, 2);
    std::swap(table.turns[0][0], table.turns[0][1]);  // F1 before F0: the second stage gets the wrong micro-batch
    CHECK(VirtualRanks(table).run() == "micro-batch 1 came where 0 was due");
    table = table_of({"gpipe", 1}, 2, 2);
    std::reverse(table.turns[1].begin(), table.turns[1].end());
    CHECK(VirtualRanks(table).run() == "a turn ran too early");
    table = table_of({"1f1b", 1}, 3, 1);
    std::swap(table.turns[1][0], table.turns[1][1]);
    CHECK(VirtualRanks(table).run() == "rank 0 waits for ever before turn 1");
}

TEST_CASE("timetable/bubbles_are_those_of_the_papers") {
    for (const TableKind& kind : kKinds)
        for (int ranks = 2; ranks <= 8; ++ranks)
            for (int micros = ranks; micros <= 16; ++micros) {
                if (kind.chunks > 1 && micros % ranks) continue;
                const Timetable table = table_of(kind, ranks, micros);
                const Simulation run = simulate(table, {1, table.splits ? 1.0 : 0.5, table.splits ? 1.0 : 0.5});
                CHECK(run.bubble == doctest::Approx(bubble_by_theory(table)).epsilon(1e-9));
            }
    // reference figures for 4 ranks and 8 micro-batches: 27 %, 11 % and 16 %
    CHECK(bubble_by_theory(table_of({"1f1b", 1}, 4, 8)) == doctest::Approx(3.0 / 11));
    CHECK(bubble_by_theory(table_of({"zb-h1", 1}, 4, 8)) == doctest::Approx(3.0 / 27));
    CHECK(bubble_by_theory(table_of({"interleaved", 2}, 4, 8)) == doctest::Approx(3.0 / 19));
}

TEST_CASE("timetable/micro_batches_in_flight_are_bounded") {
    for (int ranks = 2; ranks <= 8; ++ranks)
        for (int micros = 1; micros <= 16; ++micros)
            for (int rank = 0; rank < ranks; ++rank) {
                CHECK(most_in_flight(table_of({"1f1b", 1}, ranks, micros), rank) == std::min(ranks - rank, micros));
                CHECK(most_in_flight(table_of({"gpipe", 1}, ranks, micros), rank) == micros);
                CHECK(most_in_flight(table_of({"zb-h1", 1}, ranks, micros), rank) <= ranks);
                for (int active = 1; active <= 4; ++active)
                    for (const TableKind& kind : kKinds) {
                        const Timetable table = table_of(kind, ranks, micros, active);
                        for (int chunk = 0; chunk < table.chunks; ++chunk)
                            CHECK(most_in_flight_of_stage(table, chunk * ranks + rank) <= active);
                    }
            }
}

// deepspeed/runtime/pipe/schedule.py, TrainSchedule: in 2(M+P-1) ticks a stage works forward in those of its own parity, backward in the
// others.
TEST_CASE("timetable/stages_of_1f1b_work_in_deepspeeds_order") {
    for (int stages = 1; stages <= 8; ++stages)
        for (int micros = 1; micros <= 16; ++micros) {
            const Timetable table = table_of({"1f1b", 1}, stages, micros);
            for (int s = 0; s < stages; ++s) {
                std::vector<Turn> turns;
                for (int t = 0; t < 2 * (micros + stages - 1); ++t) {
                    const bool forward = t % 2 == s % 2;
                    const int micro = forward      ? t / 2 - s / 2
                                      : t % 2 == 0 ? t / 2 - stages + (s + 1) / 2
                                                   : (t - 1) / 2 - stages + 1 + s / 2;
                    if (micro >= 0 && micro < micros) turns.push_back({forward ? Work::forward : Work::backward, s, micro});
                }
                CHECK(table.turns[static_cast<size_t>(s)] == turns);
            }
        }
}

TEST_CASE("timetable/tables_as_text") {
    CHECK(print(table_of({"1f1b", 1}, 3, 4)) ==
          "s0 F0 F1 F2 .  .  B0 F3 B1 .  B2 .  B3\ns1 .  F0 F1 .  B0 F2 B1 F3 B2 .  B3\ns2 .  .  F0 B0 F1 B1 F2 B2 F3 B3\n");
    CHECK(print(table_of({"gpipe", 1}, 2, 3)) == "s0 F0 F1 F2 .  .  B0 B1 B2\ns1 .  F0 F1 F2 B0 B1 B2\n");
    CHECK(print(table_of({"zb-h1", 1}, 2, 3)) == "s0 F0 F1 .  B0 W0 F2 B1 W1 B2 W2\ns1 .  F0 B0 F1 B1 W0 F2 B2 W1 W2\n");
    CHECK(print(table_of({"interleaved", 2}, 2, 2)) ==
          "s0 F0a F1a F0b F1b .   B0b .   B1b B0a B1a\ns1 .   F0a F1a F0b B0b F1b B1b B0a B1a\n");
}

TEST_CASE("partition/balance_follows_deepspeeds_cases") {
    const auto spread = [](std::vector<double> weights, int parts) {
        double most = 0, least = 1e9;
        size_t begin = 0;
        for (const int end : balance(weights, parts)) {
            double sum = 0;
            for (; begin < static_cast<size_t>(end); ++begin) sum += weights[begin];
            most = std::max(most, sum), least = std::min(least, sum);
        }
        return most - least;
    };
    CHECK(spread({1, 1, 1, 1}, 4) == 0);
    CHECK(spread({1, 1, 1, 1, 1}, 4) == 1);
    CHECK(spread({1, 1, 1, 1, 0, 1}, 4) == 1);
    CHECK(balance(std::vector<double>{0, 1, 2, 3, 3, 3}, 4) == std::vector<int>{3, 4, 5, 6});
    CHECK(balance(std::vector<double>{0, 1.1, 30, 3}, 3) == std::vector<int>{2, 3, 4});
    CHECK(balance(std::vector<double>(8, 1), 4) == std::vector<int>{2, 4, 6, 8});
    CHECK(balance(std::vector<double>{5, 1, 1, 1, 1, 1}, 2) == std::vector<int>{1, 6});
    CHECK(balance(std::vector<double>{0, 0, 0}, 3) == std::vector<int>{1, 2, 3});
}
