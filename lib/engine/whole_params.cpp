#include "engine/whole_params.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/cpu/optim.h"

namespace ds {
namespace {

// Floats [begin, end) of a rank's part that `data` holds. Where they lie on disk or in a device's memory, `fetch` and `put_back` move them
// through a copy.
struct Piece {
    float* data = nullptr;
    Interval elements;
    Device* device = nullptr;
    DiskFile* file = nullptr;
    int64_t offset = 0;  // in the file
    float* home = nullptr;
    std::vector<float> copy;

    bool exists() const { return data || file; }
    void make_copy() {
        copy.resize(static_cast<size_t>(elements.size()));
        home = std::exchange(data, copy.data());
    }
    Status fetch() {
        if (!device && !file) return ok();
        make_copy();
        if (copy.empty()) return ok();
        return file ? file->read_now(offset, data, elements.size() * 4) : device->download(data, home, copy.size() * 4);
    }
    Status put_back() {
        if (copy.empty()) return ok();
        return file ? file->write_now(offset, data, elements.size() * 4) : device->upload(home, data, copy.size() * 4);
    }
};

Piece piece_of(Rank& rank, Param& p, Field field, bool dealt_out) {
    const ParamStore& params = *rank.params;
    Device* device = rank.device.get();
    switch (field.kind) {
    case Field::weight:
        if (p.weight.on_disk)
            return {nullptr, p.weight.elements, nullptr, params.weight_file(), params.weight_byte(p, p.weight.elements.begin)};
        return {params.weight(p), p.weight.elements, device};
    case Field::grad: {
        const Interval held = dealt_out ? p.own : p.grad.elements;
        return {params.grads() ? params.grad(p, held.begin) : nullptr, held, device};
    }
    case Field::state: break;
    }
    if (!params.has_state()) return {};
    const Interval held = p.elementwise ? p.own : Interval{0, params.state_count(p, field.index)};
    if (params.state_file()) return {nullptr, held, nullptr, params.state_file(), p.state_offsets[field.index]};
    return {p.state[field.index], held, device};
}

// Whether the field has the parameter's shape, and so is cut as it is.
bool is_cut(const Param& p, Field field) { return field.kind != Field::state || p.elementwise; }

}  // namespace

std::vector<Field> fields_of(const Param& definition, bool with_state) {
    std::vector<Field> fields{{Field::weight}};
    for (size_t i = 0; with_state && i < definition.state_defs.size(); ++i) fields.push_back({Field::state, i});
    return fields;
}

int64_t WholeParams::count(const Param& p, Field field) {
    return elements(field.kind == Field::state ? p.state_defs[field.index].shape : p.shape);
}

Status WholeParams::holders(const Param& definition, const std::function<Status(Rank&, Param&)>& f) const {
    for (const auto& rank : ranks_)
        if (Param* p = rank->params->find(definition.name)) DS_CHECK(f(*rank, *p));
    return ok();
}

const float* WholeParams::in_place(const Param& definition, Field field) const {
    if (definition.code && field.kind == Field::weight) return nullptr;
    if (ranks_.mesh().ranks() > 1 || ranks_[0].device) return nullptr;
    return piece_of(ranks_[0], *ranks_[0].params->find(definition.name), field, false).data;
}

// Of what one rank holds: written into `out`, or added to it.
Status WholeParams::take(Rank& rank, Param& p, const Param& definition, Field field, bool dealt_out, bool sums, float* out) const {
    if (p.code && field.kind == Field::weight) return rank.params->decode(p, out, rank.workers);
    Piece piece = piece_of(rank, p, field, dealt_out && !sums);
    if (!piece.exists() || (sums && rank.backwards == 0)) return ok();
    DS_CHECK(piece.fetch());
    const CutCopy copy(definition.shape, is_cut(p, field) ? p.cut : Cut{}, rank.at(MeshAxis::tensor), ranks_.extent(MeshAxis::tensor));
    if (!is_cut(p, field)) {
        std::copy_n(piece.data, piece.elements.size(), out);
        return ok();
    }
    copy.runs([&](int64_t whole, int64_t part, int64_t n) {
        const int64_t begin = std::max(part, piece.elements.begin), end = std::min(part + n, piece.elements.end);
        for (int64_t i = begin; i < end; ++i) {
            float& to = out[whole + i - part];
            to = piece.data[i - piece.elements.begin] + (sums ? to : 0.0f);
        }
    });
    return ok();
}

Status WholeParams::read(const Param& definition, Field field, float* out, bool grads_are_summed, bool grads_are_dealt_out) const {
    const bool sums = field.kind == Field::grad && !grads_are_summed;
    const bool dealt_out = field.kind == Field::state || (field.kind == Field::grad && grads_are_dealt_out) ||
                           (field.kind == Field::weight && in_parts(definition));
    const int64_t n = count(definition, field);
    Communicator* const between = ranks_.between();
    const size_t summands = between && sums ? static_cast<size_t>(ranks_.size()) : 1;
    std::vector<float> each;  // of the ranks here, one after the other
    float* to = out;
    if (summands > 1) each.resize(summands * static_cast<size_t>(n)), to = each.data();
    else if (sums || between) std::fill_n(out, n, 0.0f);
    const Status status = holders(definition, [&](Rank& rank, Param& p) -> Status {
        if (!sums && rank.at(MeshAxis::sequence) != 0) return ok();
        if (p.cut.whole() && rank.at(MeshAxis::tensor) != 0) return ok();  // the others hold the same
        if (!sums && !dealt_out && p.holder != 0) return ok();
        if (field.kind == Field::state && !p.counted) return ok();  // a host's optimizer keeps up the counted one only
        return take(rank, p, definition, field, dealt_out, sums, to + (summands > 1 ? (rank.index - ranks_[0].index) * n : 0));
    });
    if (!between) return status;
    if (!status.ok()) {
        between->abort(status);
        return status;
    }
    return combine(to, static_cast<int64_t>(summands), n, sums, out).within(definition.name);
}

// Puts together what each process holds. With `sums`, sums of all ranks in their order, as one process adds them up; else every element is
// zero where it is not held.
Status WholeParams::combine(const float* held, int64_t summands, int64_t n, bool sums, float* out) const {
    constexpr int64_t kChunk = 1 << 20;
    Communicator& between = *ranks_.between();
    const int64_t step = std::max<int64_t>(std::min(n, kChunk / summands), 1), processes = between.size();
    std::vector<float> mine(static_cast<size_t>(summands * step)), theirs(static_cast<size_t>(processes * summands * step));
    for (int64_t at = 0; at < n; at += step) {
        const int64_t count = std::min(step, n - at);
        for (int64_t s = 0; s < summands; ++s) std::copy_n(held + s * n + at, count, mine.data() + s * count);
        std::vector<Block> blocks;
        for (int64_t p = 0; p < processes; ++p) blocks.push_back({theirs.data() + p * summands * count, summands * count * 4});
        DS_CHECK(between.all_gather({mine.data(), summands * count * 4}, blocks, Team{0, 1}));
        for (int64_t i = 0; i < count; ++i) {
            float sum = 0;
            uint32_t bits = 0;
            for (int64_t part = 0; part < processes * summands; ++part) {
                const float x = theirs[static_cast<size_t>(part * count + i)];
                sum += x;
                bits |= std::bit_cast<uint32_t>(x);
            }
            out[at + i] = sums ? sum : std::bit_cast<float>(bits);
        }
    }
    return ok();
}

bool WholeParams::in_parts(const Param& definition) const {
    bool parts = false;
    static_cast<void>(holders(definition, [&](Rank&, Param& p) { return parts |= p.weight.in_parts, ok(); }));
    return parts;
}

// A rank may hold more of the low copy than of the weight.
Status WholeParams::write_low(Rank& rank, const Param& p, const Param& definition, const float* from) const {
    if (!p.low_type || p.low.elements.size() == 0) return ok();
    if (rank.device) return rank.params->refresh_low(p);
    const CutCopy copy(definition.shape, p.cut, rank.at(MeshAxis::tensor), ranks_.extent(MeshAxis::tensor));
    std::vector<std::byte> held(p.low.on_disk ? static_cast<size_t>(p.low.elements.size() * 2) : 0);
    std::byte* to = p.low.on_disk ? held.data() : static_cast<std::byte*>(rank.params->low(p));
    copy.runs([&](int64_t whole, int64_t part, int64_t n) {
        const int64_t begin = std::max(part, p.low.elements.begin), end = std::min(part + n, p.low.elements.end);
        if (end <= begin) return;
        const auto by_chance = rank.params->rounding(p, begin);
        cpu::write_low(from + whole + begin - part, 0, end - begin, to + 2 * (begin - p.low.elements.begin), *p.low_type,
                       by_chance ? &*by_chance : nullptr);
    });
    return p.low.on_disk
               ? rank.params->weight_file()->write_now(rank.params->low_byte(p, p.low.elements.begin), to, p.low.elements.size() * 2)
               : ok();
}

Status WholeParams::write(const Param& definition, Field field, const float* from) {
    return holders(definition, [&](Rank& rank, Param& p) -> Status {
        if (p.code && field.kind == Field::weight) return rank.params->encode(p, from, rank.workers);
        Piece piece = piece_of(rank, p, field, false);
        if (!piece.exists()) return ok();
        if (piece.device || piece.file) piece.make_copy();
        if (!is_cut(p, field)) {
            std::copy_n(from, piece.elements.size(), piece.data);
        } else {
            const CutCopy copy(definition.shape, p.cut, rank.at(MeshAxis::tensor), ranks_.extent(MeshAxis::tensor));
            copy.runs([&](int64_t whole, int64_t part, int64_t n) {
                const int64_t begin = std::max(part, piece.elements.begin), end = std::min(part + n, piece.elements.end);
                if (end > begin) std::copy_n(from + whole + begin - part, end - begin, piece.data + begin - piece.elements.begin);
            });
        }
        DS_CHECK(piece.put_back());
        return field.kind == Field::weight ? write_low(rank, p, definition, from) : ok();
    });
}

}  // namespace ds
