// The sweep of one rank over what it updates. State and weights that lie on disk come in chunks: while threads update one, the ones behind
// it are being read and the one before it is being written.
#include <algorithm>
#include <numeric>

#include "base/round.h"
#include "engine/engine.h"
#include "kernels/cpu/optim.h"

namespace ds {

// Elements of a parameter, and where what belongs to them lies. Memory that comes from disk is given as bytes within its chunk.
struct UpdatePiece {
    const Param* param = nullptr;
    int64_t begin = 0, end = 0;
    float* gradient = nullptr;
    std::vector<float*> state;
    std::vector<int64_t> state_at;  // from disk: instead of state
    int64_t weight_at = -1, low_at = -1;
};

struct UpdateMove {  // between disk and a chunk
    DiskFile* file = nullptr;
    int64_t offset = 0, bytes = 0, at = 0;
    bool reads = true;
};

struct UpdateChunk {
    std::vector<UpdatePiece> pieces, whole;  // any part of a parameter; all of one, updated by all threads together
    std::vector<UpdateMove> moves;
    int64_t bytes = 0, elements = 0;

    int64_t room(int64_t n) {
        const int64_t at = bytes;
        bytes += round_up(n, 64);
        return at;
    }
    int64_t move(DiskFile* file, int64_t offset, int64_t n, bool reads) {
        const int64_t at = room(n);
        if (n > 0) moves.push_back({file, offset, n, at, reads});
        return at;
    }
};

namespace {

constexpr int64_t kPiece = 1 << 16;  // elements a thread takes at a time: large enough for the prefetcher, small enough to balance
constexpr int64_t kChunk = 1 << 20;  // elements that come from disk at a time

// The first chunk needs no disk. only: null, or the one parameter that is updated, by this gradient of it.
std::vector<UpdateChunk> chunks_of(const ParamStore& params, const Param* only = nullptr, float* gradient = nullptr) {
    std::vector<UpdateChunk> chunks(1);
    const auto add = [&](UpdateChunk& chunk, const Param& p, int64_t begin, int64_t end, bool whole) {
        UpdatePiece piece{&p, begin, end, only ? gradient + begin : params.grad(p, begin), {}, {}};
        for (size_t i = 0; i < p.state_defs.size(); ++i) {
            const int64_t skipped = p.elementwise ? begin - p.own.begin : 0,
                          floats = p.elementwise ? end - begin : params.state_count(p, i);
            if (params.state_file())
                piece.state_at.push_back(chunk.move(params.state_file(), p.state_offsets[i] + 4 * skipped, 4 * floats, true));
            else piece.state.push_back(p.state[i] + skipped);
        }
        if (p.weight.on_disk) piece.weight_at = chunk.move(params.weight_file(), params.weight_byte(p, begin), 4 * (end - begin), true);
        if (p.low.on_disk && p.low_type)
            piece.low_at = chunk.move(params.weight_file(), params.low_byte(p, begin), 2 * (end - begin), false);
        chunk.elements += end - begin;
        (whole ? chunk.whole : chunk.pieces).push_back(std::move(piece));
    };
    for (const Param& p : params.all()) {
        if (!p.trainable || p.own.size() == 0 || (only && only != &p)) continue;
        const bool disk = p.weight.on_disk || (params.state_file() && !p.state_defs.empty());
        const auto chunk_for = [&](int64_t n) -> UpdateChunk& {
            if (!disk) return chunks.front();
            if (chunks.size() == 1 || chunks.back().elements + n > kChunk) chunks.emplace_back();
            return chunks.back();
        };
        if (!p.elementwise) {
            add(chunk_for(p.count), p, 0, p.count, true);
            continue;
        }
        for (int64_t at = p.own.begin; at < p.own.end; at += kPiece) {
            const int64_t end = std::min(at + kPiece, p.own.end);
            add(chunk_for(end - at), p, at, end, false);
        }
    }
    return chunks;
}

}  // namespace

Status Engine::update_chunk(Rank& rank, const std::vector<Hyper>& hypers, const UpdateChunk& chunk, std::byte* memory, bool measures) {
    ParamStore& params = *rank.params;
    const auto optimizer_of = [&](const Param& p) -> const Optimizer& { return *params_->groups()[p.group].optimizer; };
    const auto view_of = [&](const UpdatePiece& piece, std::vector<float*>& state, std::optional<Rounding>& by_chance) {
        const Param& p = *piece.param;
        state = piece.state;
        for (const int64_t at : piece.state_at) state.push_back(reinterpret_cast<float*>(memory + at));
        ParamView view{piece.weight_at < 0 ? params.weight(p, piece.begin) : reinterpret_cast<float*>(memory + piece.weight_at),
                       piece.gradient, state.data(), piece.end - piece.begin};
        if (p.low_type) view.low = piece.low_at < 0 ? params.low(p, piece.begin) : memory + piece.low_at, view.low_type = *p.low_type;
        by_chance = params.rounding(p, piece.begin);
        if (by_chance) view.rounding = &*by_chance;
        return view;
    };
    size_t scratch_bytes = 0;
    for (const UpdatePiece& piece : chunk.whole)
        scratch_bytes = std::max(scratch_bytes,
                                 static_cast<size_t>(optimizer_of(*piece.param).scratch_bytes(piece.param->traits, rank.workers.size())));
    DS_CHECK(rank.other_arena.reserve(scratch_bytes));
    std::vector<double> squares(measures ? chunk.pieces.size() : 0);
    std::atomic<size_t> next{0};
    DS_CHECK(rank.run([&](Team team) {
        std::vector<float*> state;
        std::optional<Rounding> by_chance;
        for (size_t i = next.fetch_add(1); i < chunk.pieces.size(); i = next.fetch_add(1)) {
            const UpdatePiece& piece = chunk.pieces[i];
            const Param& p = *piece.param;
            const int64_t begin = std::max(piece.begin, p.share.begin), end = std::min(piece.end, p.share.end);
            if (measures && begin < end && rank.counts(p))
                squares[i] = cpu::sum_of_squares(piece.gradient + (begin - piece.begin), end - begin);
            optimizer_of(p).update(0, p.traits, view_of(piece, state, by_chance), hypers[p.group], nullptr, Team{0, 1});
        }
        for (const UpdatePiece& piece : chunk.whole) {
            const Param& p = *piece.param;
            const Optimizer& optimizer = optimizer_of(p);
            for (int phase = 0; phase < optimizer.phases(p.traits); ++phase) {
                optimizer.update(phase, p.traits, view_of(piece, state, by_chance), hypers[p.group], rank.other_arena.data(), team);
                rank.workers.barrier().arrive_and_wait();
            }
        }
        return ok();
    }));
    rank.swept_squares += std::accumulate(squares.begin(), squares.end(), 0.0);
    return ok();
}

// Nothing needs the norm before the update, and this process updates everything element by element in memory, in a single chunk a rank.
bool Engine::sweep_measures_norm() const {
    if (config_.skip_on_overflow || config_.clipping.norm > 0 || options_.optimizer || !job_.alone()) return false;
    return std::all_of(ranks_->begin(), ranks_->end(), [](const auto& rank) {
        const auto& all = rank->params->all();
        return !rank->device && !rank->params->state_file() && !rank->params->weight_file() &&
               std::all_of(all.begin(), all.end(), [](const Param& p) { return p.elementwise || !p.trainable; });
    });
}

// An optimizer that sees whole parameters computes on the host, whatever holds them.
Status Engine::update_through_host(Rank& rank, Param& p, const Hyper& hyper) {
    const Optimizer& optimizer = *params_->groups()[p.group].optimizer;
    ParamStore& params = *rank.params;
    Device& device = *rank.device;
    std::vector<float> weight(static_cast<size_t>(p.count)), gradient(weight.size());
    DS_CHECK(device.download(weight.data(), params.weight(p), weight.size() * 4));
    DS_CHECK(device.download(gradient.data(), params.grad(p), gradient.size() * 4));
    std::vector<std::vector<float>> states;
    std::vector<float*> state;
    for (size_t i = 0; i < p.state.size(); ++i) {
        states.emplace_back(static_cast<size_t>(params.state_count(p, i)));
        DS_CHECK(device.download(states.back().data(), p.state[i], states.back().size() * 4));
    }
    for (auto& s : states) state.push_back(s.data());
    const ParamView view{weight.data(), gradient.data(), state.data(), p.count};
    Arena scratch;
    DS_CHECK(scratch.reserve(static_cast<size_t>(optimizer.scratch_bytes(p.traits, rank.workers.size()))));
    DS_CHECK(rank.run([&](Team team) {
        for (int phase = 0; phase < optimizer.phases(p.traits); ++phase) {
            optimizer.update(phase, p.traits, view, hyper, scratch.data(), team);
            rank.workers.barrier().arrive_and_wait();
        }
        return ok();
    }));
    DS_CHECK(device.upload(params.weight(p), weight.data(), weight.size() * 4));
    for (size_t i = 0; i < states.size(); ++i) DS_CHECK(device.upload(p.state[i], states[i].data(), states[i].size() * 4));
    return params.refresh_low(p);
}

Status Engine::update_on_device(Rank& rank, const std::vector<Hyper>& hypers) {
    ParamStore& params = *rank.params;
    Status swept;
    const std::function<void(const BackendSweep&)> sweep_there = [&](const BackendSweep& call) {
        if (Status status = rank.device->sweep(call); swept.ok()) swept = std::move(status);
    };
    for (Param& p : params.all()) {
        if (!p.trainable || p.own.size() == 0) continue;
        if (!p.elementwise) {
            DS_CHECK(update_through_host(rank, p, hypers[p.group]));
            continue;
        }
        ParamView view{params.weight(p, p.own.begin), params.grad(p, p.own.begin), p.state.data(), p.own.size()};
        if (p.low_type) view.low = params.low(p, p.own.begin), view.low_type = *p.low_type;
        const auto by_chance = params.rounding(p, p.own.begin);
        if (by_chance) view.rounding = &*by_chance;
        view.device = &sweep_there;
        params_->groups()[p.group].optimizer->update(0, p.traits, view, hypers[p.group], nullptr, Team{0, 1});
    }
    return swept;
}

// At first low copies are the nearest; after an update, wherever they are made again, they come out as that update rounded them.
void Engine::round_lows(int64_t updates) const {
    std::optional<Rounding> draws;
    if (config_.stochastic_rounding && updates > 0)
        draws = Rounding{.seed = static_cast<uint64_t>(config_.seed), .step = static_cast<uint64_t>(updates)};
    for (const auto& rank : *ranks_) rank->params->round_by_chance(draws);
}

std::vector<Hyper> Engine::hypers_of(double factor, double clip_value) const {
    std::vector<Hyper> hypers;
    for (size_t g = 0; g < params_->groups().size(); ++g) hypers.push_back(hyper_of(g, factor, clip_value));
    return hypers;
}

Status Engine::update(Rank& rank, double factor, double clip_value) {
    const std::vector<Hyper> hypers = hypers_of(factor, clip_value);
    rank.swept_squares = 0;
    if (rank.device) return update_on_device(rank, hypers);
    return update_chunks(rank, hypers, chunks_of(*rank.params), sweep_measures_norm());
}

Status Engine::check_optimizer_in_backward() const {
    if (!config_.optimizer_in_backward) return ok();
    struct Against {
        bool is_so;
        Code code;
        std::string what;
    };
    const int ranks = ranks_->mesh().ranks();
    for (const Against& against : std::initializer_list<Against>{
             {config_.clipping.norm > 0, Code::E_CONFIG,
              fmt::format("excludes gradient_clipping by norm ({}), which is known when all gradients are; 0 or {{\"value\": x}} can be "
                          "followed",
                          config_.clipping.norm)},
             {config_.skip_on_overflow, Code::E_CONFIG,
              "excludes fp16 and bf16.check_grad_overflow, which look at all gradients before an update; set bf16.check_grad_overflow to "
              "false"},
             {config_.batch.accumulation > 1, Code::E_CONFIG,
              fmt::format("needs one micro-batch an update; gradient_accumulation_steps are {}", config_.batch.accumulation)},
             {!config_.efficiency.batch_growth.is_null(), Code::E_CONFIG, "excludes batch_growth, which accumulates micro-batches"},
             {options_.optimizer.has_value(), Code::E_UNSUPPORTED, "a host's own optimizer is called when all gradients are there"},
             {ranks > 1, Code::E_UNSUPPORTED, fmt::format("is built for one rank; the mesh has {}", ranks)},
             {(*ranks_)[0].device != nullptr, Code::E_UNSUPPORTED, "is built for the CPU alone"}})
        if (against.is_so) return fail(against.code, "config: optimizer_in_backward: {}", against.what);
    return ok();
}

// Updates each weight where the backward pass has completed its gradient, in whose memory it goes on.
Status Engine::backward_and_update(Rank& rank, Plan& plan, uint64_t draw) {
    const std::vector<Hyper> hypers = hypers_of(final_factor(), config_.clipping.value);
    rank.swept_squares = 0;
    const Consumer update{"update", [&](const std::string& name, float* gradient) -> Status {
                              const Param& p = *rank.params->find(name);
                              if (!p.elementwise) {
                                  DS_TRY(const double squares, squares_of(rank, gradient, p.count));
                                  rank.swept_squares += squares;
                              }
                              return update_chunks(rank, hypers, chunks_of(*rank.params, &p, gradient), true);
                          }};
    return run_part(rank, plan, Plan::Part::backward, draw, true, {.consumer = &update});
}

Status Engine::update_chunks(Rank& rank, const std::vector<Hyper>& hypers, const std::vector<UpdateChunk>& chunks, bool measures) {
    const size_t n = chunks.size() - 1;
    DS_CHECK(update_chunk(rank, hypers, chunks[0], nullptr, measures));
    if (n == 0) return ok();

    // Chunk c lies in buffer c % count. A buffer is free when what was written from it is on disk.
    const size_t count = std::clamp<size_t>(static_cast<size_t>(config_.zero.offload_optimizer.buffers), 2, n + 1);
    int64_t bytes = 0;
    for (const UpdateChunk& chunk : chunks) bytes = std::max(bytes, chunk.bytes);
    DS_CHECK(rank.params->disk_buffers().reserve(static_cast<size_t>(bytes) * count));
    const auto memory_of = [&](size_t c) { return rank.params->disk_buffers().data() + static_cast<int64_t>(c % count) * bytes; };
    std::vector<DiskFile::Transfer> reads(count), writes(count);
    const auto read = [&](size_t c) -> Status {
        if (c >= n) return ok();
        DS_CHECK(writes[c % count].wait());
        for (const UpdateMove& move : chunks[c + 1].moves)
            if (move.reads) move.file->read(reads[c % count], move.offset, memory_of(c) + move.at, move.bytes);
        return ok();
    };
    for (size_t c = 0; c + 1 < count; ++c) DS_CHECK(read(c));
    for (size_t c = 0; c < n; ++c) {
        DS_CHECK(read(c + count - 1));
        DS_CHECK(reads[c % count].wait());
        DS_CHECK(update_chunk(rank, hypers, chunks[c + 1], memory_of(c), measures));
        for (const UpdateMove& move : chunks[c + 1].moves)
            move.file->write(writes[c % count], move.offset, memory_of(c) + move.at, move.bytes);
    }
    Status status;
    for (DiskFile::Transfer& transfer : writes)
        if (Status one = transfer.wait(); !one.ok() && status.ok()) status = one;
    return status;
}

}  // namespace ds
