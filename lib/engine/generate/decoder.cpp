#include "engine/generate/decoder.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "engine/engine.h"
#include "engine/pack.h"

namespace ds {

// Token places of the cache, counted by how many sequences hold them: beams share what they have in common.
class PlacePool {
public:
    explicit PlacePool(int64_t places) : holders_(static_cast<size_t>(places), 0) {
        for (int64_t i = places; i-- > 0;) free_.push_back(static_cast<int32_t>(i));
    }
    int32_t take() {
        const int32_t place = free_.back();
        free_.pop_back();
        hold(place);
        return place;
    }
    void hold(int32_t place) { ++holders_[static_cast<size_t>(place)]; }
    void release(int32_t place) {
        if (--holders_[static_cast<size_t>(place)] == 0) free_.push_back(place);
    }

private:
    std::vector<int32_t> holders_, free_;
};

class CachedDecoder : public Decoder {
public:
    CachedDecoder(Engine& engine, const DecoderSize& size)
        : engine_(engine), shape_{.pool = bucket(size.tokens), .capacity = room_for(size.capacity)}, pool_(shape_.pool) {
        width_ = static_cast<size_t>(engine.model_->vocabulary);
        if (size.source_tokens) shape_.source_pool = bucket(size.source_tokens), shape_.source_capacity = room_for(size.source_capacity);
    }

    Status start(std::span<const std::vector<int32_t>> prompts, std::span<const std::vector<int32_t>> sources) override {
        for (int32_t at = 0, r = 0; const auto& source : sources) {
            const auto length = static_cast<int32_t>(source.size());
            sources_.push_back({at, length});
            source_of_.push_back(r++);
            source_ids_.insert(source_ids_.end(), source.begin(), source.end());
            at += length;
        }
        std::vector<int32_t> ids;
        std::vector<int64_t> counts;
        for (const auto& prompt : prompts) {
            ids.insert(ids.end(), prompt.begin(), prompt.end());
            counts.push_back(static_cast<int64_t>(prompt.size()));
            tables_.emplace_back();
            for (size_t i = 0; i < prompt.size(); ++i) tables_.back().push_back(pool_.take());
        }
        return run(ids, counts, true);
    }

    Status advance(std::span<const int> from, std::span<const int32_t> ids) override {
        if (!sources_.empty()) {
            const std::vector<int32_t> looked_at = std::exchange(source_of_, {});
            for (const int i : from) source_of_.push_back(looked_at[static_cast<size_t>(i)]);
        }
        std::vector<std::vector<int32_t>> before = std::exchange(tables_, {});
        for (const int i : from) {
            tables_.push_back(before[static_cast<size_t>(i)]);
            for (const int32_t place : tables_.back()) pool_.hold(place);
        }
        for (const auto& table : before)
            for (const int32_t place : table) pool_.release(place);
        for (auto& table : tables_) table.push_back(pool_.take());
        return run({ids.begin(), ids.end()}, std::vector<int64_t>(ids.size(), 1), false);
    }

private:
    // ids: the new tokens of the sequences, counts[i] of each.
    Status run(const std::vector<int32_t>& ids, const std::vector<int64_t>& counts, bool fresh) {
        const auto sequences = static_cast<int64_t>(counts.size());
        const int64_t rows = sequences <= 4 ? sequences : bucket(sequences),
                      tokens = fresh ? bucket(static_cast<int64_t>(ids.size())) : rows;
        PlanKey key{.shape = {.tokens = tokens, .rows = rows, .length = 1, .labelled = tokens}, .cache = shape_, .outputs = {"logits"}};
        key.cache.fresh = fresh;
        if (!sources_.empty())
            key.shape.source_tokens = bucket(fresh ? static_cast<int64_t>(source_ids_.size()) : 1);  // later graphs have no encoder
        Packed packed;
        packed.shape = key.shape;
        const auto input = [&](const char* name, Shape shape) {
            packed.inputs[name] = HostTensor::zeros(DType::i32, std::move(shape));
            return packed.inputs[name].as<int32_t>();
        };
        const auto all_ids = input("ids", {tokens}), places = input("places", {tokens}), positions = input("positions", {tokens}),
                   segments = input("segments", {rows + 1}), last = input("last_rows", {rows}), lengths = input("lengths", {rows}),
                   table = input("table", {rows, shape_.capacity});
        std::copy(ids.begin(), ids.end(), all_ids.begin());
        HostTensor& real = packed.inputs["real"] = HostTensor::zeros(DType::f32, {tokens});  // what experts may see
        std::fill_n(real.as<float>().begin(), ids.size(), 1.0f);
        size_t at = 0;
        for (size_t s = 0; s < static_cast<size_t>(rows); ++s) {
            if (s < counts.size()) {
                const auto length = static_cast<int32_t>(tables_[s].size()), count = static_cast<int32_t>(counts[s]);
                for (int32_t i = length - count; i < length; ++i, ++at) places[at] = i, positions[at] = i + offset();
                lengths[s] = length;
                last[s] = static_cast<int32_t>(at) - 1;
                std::copy(tables_[s].begin(), tables_[s].end(), table.begin() + static_cast<int64_t>(s) * shape_.capacity);
            }
            segments[s + 1] = static_cast<int32_t>(at);
        }
        if (!sources_.empty()) add_sources(packed, key.shape, fresh);
        DS_CHECK(engine_.ranks_->each(
            [&](Rank& rank) { return &rank == &(*engine_.ranks_)[0] ? engine_.run_cached(rank, key, packed) : ok(); }));
        return read_logits(key, counts.size());
    }

    // Where each sequence's source lies in the cache, and for the run that fills it the sources themselves.
    void add_sources(Packed& packed, const StreamShape& shape, bool fresh) const {
        const auto input = [&](const std::string& name, Shape dims) {
            packed.inputs[name] = HostTensor::zeros(DType::i32, std::move(dims));
            return packed.inputs[name].as<int32_t>();
        };
        const auto table = input("source_table", {shape.rows, shape_.source_capacity}), lengths = input("source_lengths", {shape.rows});
        for (size_t s = 0; s < source_of_.size(); ++s) {
            const auto [first, length] = sources_[static_cast<size_t>(source_of_[s])];
            std::iota(table.begin() + static_cast<int64_t>(s) * shape_.source_capacity,
                      table.begin() + static_cast<int64_t>(s) * shape_.source_capacity + length, first);
            lengths[s] = length;
        }
        if (!fresh) return;
        const auto ids = input("source.ids", {shape.source_tokens}), places = input("source.places", {shape.source_tokens}),
                   positions = input("source.positions", {shape.source_tokens}), segments = input("source.segments", {shape.rows + 1});
        std::copy(source_ids_.begin(), source_ids_.end(), ids.begin());
        std::fill(segments.begin(), segments.end(), static_cast<int32_t>(source_ids_.size()));
        for (size_t r = 0; r < sources_.size(); ++r) {
            segments[r] = sources_[r].first;
            for (int32_t i = 0; i < sources_[r].length; ++i) {
                const auto at = static_cast<size_t>(sources_[r].first + i);
                places[at] = i, positions[at] = i + offset();
            }
        }
    }

    int32_t offset() const { return static_cast<int32_t>(engine_.model_->position_offset); }
    static int64_t room_for(int64_t tokens) {
        return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(tokens, 64))));
    }

    Status read_logits(const PlanKey& key, size_t sequences) {
        const Plan& plan = *(*engine_.ranks_)[0].plans.at(key).plan;
        const ValueId id = plan.graph().outputs.front().second;
        logits_.resize(sequences * width_);
        const DType dtype = plan.graph().type(id).dtype;
        const void* made = plan.address(id);
        std::vector<std::byte> copy;
        if (Device* device = (*engine_.ranks_)[0].device.get()) {
            copy.resize(logits_.size() * static_cast<size_t>(size_of(dtype)));
            DS_CHECK(device->download(copy.data(), made, copy.size()));
            made = copy.data();
        }
        convert(made, dtype, logits_.data(), DType::f32, static_cast<int64_t>(logits_.size()));
        return ok();
    }

    Engine& engine_;
    CacheShape shape_;
    PlacePool pool_;
    std::vector<std::vector<int32_t>> tables_;  // of each sequence, where its tokens lie
    struct Source {
        int32_t first, length;
    };  // places in the encoder's part of the cache
    std::vector<Source> sources_;
    std::vector<int32_t> source_ids_, source_of_;  // of all sources; the source of each sequence
};

class PlainDecoder : public Decoder {
public:
    explicit PlainDecoder(Engine& engine) : engine_(engine) { width_ = static_cast<size_t>(engine.model_->vocabulary); }

    Status start(std::span<const std::vector<int32_t>> prompts, std::span<const std::vector<int32_t>> sources) override {
        sequences_.assign(prompts.begin(), prompts.end());
        sources_.assign(sources.begin(), sources.end());
        return run();
    }
    Status advance(std::span<const int> from, std::span<const int32_t> ids) override {
        std::vector<std::vector<int32_t>> next;
        for (size_t i = 0; i < from.size(); ++i) {
            next.push_back(sequences_[static_cast<size_t>(from[i])]);
            next.back().push_back(ids[i]);
        }
        sequences_ = std::move(next);
        if (!sources_.empty()) {
            std::vector<std::vector<int32_t>> looked_at;
            for (const int i : from) looked_at.push_back(sources_[static_cast<size_t>(i)]);
            sources_ = std::move(looked_at);
        }
        return run();
    }
    bool runs_together() const override { return true; }

private:
    static size_t add_rows(Batch& batch, const std::string& ids_name, const std::string& mask_name,
                           const std::vector<std::vector<int32_t>>& rows) {
        size_t longest = 0;
        for (const auto& s : rows) longest = std::max(longest, s.size());
        const Shape shape{static_cast<int64_t>(rows.size()), static_cast<int64_t>(longest)};
        HostTensor ids = HostTensor::zeros(DType::i32, shape), mask = HostTensor::zeros(DType::u8, shape);
        for (size_t r = 0; r < rows.size(); ++r) {
            std::copy(rows[r].begin(), rows[r].end(), ids.as<int32_t>().begin() + static_cast<int64_t>(r * longest));
            std::fill_n(mask.as<uint8_t>().begin() + static_cast<int64_t>(r * longest), rows[r].size(), uint8_t{1});
        }
        batch[ids_name] = std::move(ids);
        batch[mask_name] = std::move(mask);
        return longest;
    }

    Status run() {
        Batch batch;
        if (!sources_.empty()) add_rows(batch, "input_ids", "attention_mask", sources_);
        const size_t longest = sources_.empty() ? add_rows(batch, "input_ids", "attention_mask", sequences_)
                                                : add_rows(batch, "decoder_input_ids", "decoder_attention_mask", sequences_);
        const auto saved = std::exchange(engine_.eval_outputs_, {"logits"});
        Status status = engine_.eval(batch, nullptr);
        Result<HostTensor> logits = status.ok() ? engine_.output("logits") : Result<HostTensor>(std::move(status));
        engine_.eval_outputs_ = saved;
        DS_CHECK(logits.status());
        logits_.resize(sequences_.size() * width_);
        for (size_t r = 0; r < sequences_.size(); ++r)
            std::copy_n(logits->as<float>().data() + (r * longest + sequences_[r].size() - 1) * width_, width_,
                        logits_.data() + r * width_);
        return ok();
    }

    Engine& engine_;
    std::vector<std::vector<int32_t>> sequences_, sources_;  // a source for each sequence, or none at all
};

// Processes with different rows deal out the prompts, with what becomes of them; each gets the logits of all.
class SharedDecoder : public Decoder {
public:
    SharedDecoder(Engine& engine, std::unique_ptr<Decoder> own)
        : engine_(engine), own_(std::move(own)), holders_(engine.ranks_->row_holders()) {
        width_ = static_cast<size_t>(engine.model_->vocabulary);
        for (size_t h = 0; h < holders_.size(); ++h)
            if (engine.ranks_->data_ranks(holders_[h]) == engine.ranks_->data_ranks()) me_ = static_cast<int>(h);
    }

    Status start(std::span<const std::vector<int32_t>> prompts, std::span<const std::vector<int32_t>> sources) override {
        const auto count = static_cast<int64_t>(prompts.size()), shares = static_cast<int64_t>(holders_.size());
        for (int64_t h = 0; h < shares; ++h)
            owners_.insert(owners_.end(), static_cast<size_t>(near_even(count, h, shares).size()), static_cast<int>(h));
        stand_in_ = {{prompts[0][0]}};
        if (!sources.empty()) stand_in_source_ = {sources[0]};
        const Interval mine = near_even(count, me_, shares);
        const auto part = [&](std::span<const std::vector<int32_t>> all) {
            return all.empty() ? all : all.subspan(static_cast<size_t>(mine.begin), static_cast<size_t>(mine.size()));
        };
        DS_CHECK(mine.size() == 0 ? run_along() : own_->start(part(prompts), part(sources)));
        return share();
    }

    Status advance(std::span<const int> from, std::span<const int32_t> ids) override {
        const std::vector<int> places = places_of_own();
        std::vector<int> owners, own_from;
        std::vector<int32_t> own_ids;
        for (size_t i = 0; i < from.size(); ++i) {
            owners.push_back(owners_[static_cast<size_t>(from[i])]);
            if (owners.back() != me_) continue;
            own_from.push_back(places[static_cast<size_t>(from[i])]);
            own_ids.push_back(ids[i]);
        }
        owners_ = std::move(owners);
        DS_CHECK(own_from.empty() ? run_along() : own_->advance(own_from, own_ids));
        return share();
    }

    bool runs_together() const override { return own_->runs_together(); }

private:
    // A process without sequences makes the calls that the others make.
    Status run_along() { return own_->runs_together() ? own_->start(stand_in_, stand_in_source_) : ok(); }

    // Where this process's sequences are among its own.
    std::vector<int> places_of_own() const {
        std::vector<int> places;
        int own = 0;
        for (const int owner : owners_) places.push_back(owner == me_ ? own++ : -1);
        return places;
    }

    Status share() {
        const size_t row = width_ * sizeof(float);
        std::vector<size_t> bytes(static_cast<size_t>(engine_.job_.processes()), 0);
        for (const int owner : owners_) bytes[static_cast<size_t>(holders_[static_cast<size_t>(owner)])] += row;
        std::string mine;
        const auto count = static_cast<size_t>(std::count(owners_.begin(), owners_.end(), me_));
        for (size_t i = 0; i < count; ++i) mine.append(reinterpret_cast<const char*>(own_->logits(i).data()), row);
        DS_TRY(const std::vector<std::string> all, engine_.job_.collect("ds_generate", mine, bytes));
        std::vector<size_t> taken(all.size(), 0);
        logits_.resize(owners_.size() * width_);
        for (size_t i = 0; i < owners_.size(); ++i) {
            const auto p = static_cast<size_t>(holders_[static_cast<size_t>(owners_[i])]);
            std::memcpy(logits_.data() + i * width_, all[p].data() + row * taken[p]++, row);
        }
        return ok();
    }

    Engine& engine_;
    const std::unique_ptr<Decoder> own_;
    const std::vector<int> holders_;  // the process of each share
    int me_ = 0;
    std::vector<int> owners_;  // of each sequence, whose share it is in
    std::vector<std::vector<int32_t>> stand_in_, stand_in_source_;
};

std::unique_ptr<Decoder> make_shared_decoder(Engine& engine, std::unique_ptr<Decoder> own) {
    return std::make_unique<SharedDecoder>(engine, std::move(own));
}
std::unique_ptr<Decoder> make_cached_decoder(Engine& engine, const DecoderSize& size) {
    return std::make_unique<CachedDecoder>(engine, size);
}
std::unique_ptr<Decoder> make_plain_decoder(Engine& engine) { return std::make_unique<PlainDecoder>(engine); }

}  // namespace ds
