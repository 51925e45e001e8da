// Gradients of embedding tables have a row for each token that occurred, and zeros elsewhere. Where that is less, data ranks send row
// numbers and rows (DeepSpeed's sparse_gradients). What is summed, and in which order, is the same as in a dense sum, and so are its bits.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "engine/engine.h"

namespace ds {
namespace {

std::vector<int32_t> rows_that_are_not_zero(const float* values, int64_t rows, int64_t columns, Workers& workers) {
    std::vector<uint8_t> used(static_cast<size_t>(rows), 0);
    workers.run([&](Team team) {
        const Team::Range mine = team.part(rows);
        for (int64_t r = mine.begin; r < mine.end; ++r)
            used[static_cast<size_t>(r)] = std::any_of(values + r * columns, values + (r + 1) * columns, [](float x) { return x != 0; });
    });
    std::vector<int32_t> list;
    for (int64_t r = 0; r < rows; ++r)
        if (used[static_cast<size_t>(r)]) list.push_back(static_cast<int32_t>(r));
    return list;
}

}  // namespace

// Sums the gradient of a table on every rank; false: the dense sum sends less, and nothing was done. All ranks answer alike.
Result<bool> Engine::reduce_rows(Rank& rank, const Param& p) {
    ParamStore& params = *rank.params;
    Communicator& data = *rank.links.axis[static_cast<size_t>(MeshAxis::data)];
    const int ranks = data.size();
    const auto here = static_cast<size_t>(data.rank());
    const DType wire = config_.communication;
    float* values = params.grad(p);
    const int64_t columns = p.shape.back(), rows = p.count / columns, row_bytes = columns * size_of(wire), one = row_bytes + 4;
    const std::vector<int32_t> ids = rows_that_are_not_zero(values, rows, columns, rank.workers);

    std::vector<int64_t> counts(static_cast<size_t>(ranks));
    counts[here] = static_cast<int64_t>(ids.size());
    std::vector<Block> blocks;
    for (int64_t& count : counts) blocks.push_back({&count, 8});
    DS_CHECK(rank.exchange(kSumOfGradients, p.name, [&](Team team) { return data.all_gather(blocks[here], blocks, team); }));
    const int64_t all = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    if (all * one >= (updates_are_dealt_out() ? 1 : 2) * p.count * size_of(wire)) return false;

    // Of each rank: its row numbers, then its rows.
    std::vector<std::byte> memory(static_cast<size_t>(all * one));
    blocks.clear();
    std::byte* at = memory.data();
    for (const int64_t count : counts) blocks.push_back({at, count * one}), at += count * one;
    auto* mine = static_cast<std::byte*>(blocks[here].data);
    std::memcpy(mine, ids.data(), 4 * ids.size());
    for (size_t i = 0; i < ids.size(); ++i)
        convert(values + ids[i] * columns, DType::f32, mine + 4 * ids.size() + static_cast<int64_t>(i) * row_bytes, wire, columns);
    DS_CHECK(rank.exchange(kSumOfGradients, p.name, [&](Team team) { return data.all_gather(blocks[here], blocks, team); }));

    for (const int32_t row : ids) std::fill_n(values + row * columns, columns, 0.0f);
    DS_CHECK(rank.run([&](Team team) {
        const Team::Range part = team.part(columns, 16);  // each thread sums some columns, rank by rank
        std::vector<float> wide(static_cast<size_t>(part.end - part.begin));
        for (size_t r = 0; r < blocks.size(); ++r) {
            const auto count = static_cast<size_t>(counts[r]);
            const auto* base = static_cast<const std::byte*>(blocks[r].data);
            for (size_t i = 0; i < count; ++i) {
                int32_t row;
                std::memcpy(&row, base + 4 * i, 4);
                convert(base + 4 * count + static_cast<int64_t>(i) * row_bytes + part.begin * size_of(wire), wire, wide.data(), DType::f32,
                        part.end - part.begin);
                float* to = values + row * columns + part.begin;
                for (size_t c = 0; c < wide.size(); ++c) to[c] += wide[c];
            }
        }
        return ok();
    }));
    return true;
}

}  // namespace ds
