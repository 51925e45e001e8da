#include "engine/whole_params.h"

#include <algorithm>
#include <cstring>

namespace ds {
namespace {

// Floats [begin, end) of a rank's part that `data` holds. Where that is a device's memory, `fetch` and `put_back` move them through a copy.
struct Piece {
    float* data = nullptr;
    Interval elements;
    Device* device = nullptr;
    float* home = nullptr;
    std::vector<float> copy;

    Status fetch() {
        if (!device || !data) return ok();
        copy.resize(static_cast<size_t>(elements.size()));
        home = std::exchange(data, copy.data());
        return device->download(copy.data(), home, copy.size() * 4);
    }
    Status put_back() { return home ? device->upload(home, copy.data(), copy.size() * 4) : ok(); }
};

Piece piece_of(Rank& rank, Param& p, Field field, bool dealt_out) {
    const Interval all{0, p.count}, held = dealt_out ? p.own : all;
    Device* device = rank.device.get();
    switch (field.kind) {
    case Field::weight: return {rank.params->weight(p), all, device};
    case Field::grad: return {rank.params->grads() ? rank.params->grad(p) + held.begin : nullptr, held, device};
    case Field::state: break;
    }
    if (!rank.params->has_state()) return {};
    const int64_t n = rank.params->state_count(p, field.index);
    return {p.state[field.index], p.elementwise ? p.own : Interval{0, n}, device};
}

// Whether the field has the parameter's shape, and so is cut as it is.
bool is_cut(const Param& p, Field field) { return field.kind != Field::state || p.elementwise; }

}  // namespace

int64_t WholeParams::count(const Param& p, Field field) { return elements(field.kind == Field::state ? p.state_defs[field.index].shape : p.shape); }

void WholeParams::holders(const Param& definition, const std::function<void(Rank&, Param&)>& f) const {
    for (const auto& rank : ranks_)
        if (Param* p = rank->params->find(definition.name)) f(*rank, *p);
}

const float* WholeParams::in_place(const Param& definition, Field field) const {
    if (ranks_.size() > 1 || ranks_[0].device) return nullptr;
    return piece_of(ranks_[0], *ranks_[0].params->find(definition.name), field, false).data;
}

void WholeParams::read(const Param& definition, Field field, float* out, bool grads_are_summed, bool grads_are_dealt_out) const {
    const bool sums = field.kind == Field::grad && !grads_are_summed;
    const bool dealt_out = field.kind == Field::state || (field.kind == Field::grad && grads_are_dealt_out);
    if (sums) std::fill_n(out, count(definition, field), 0.0f);
    holders(definition, [&](Rank& rank, Param& p) {
        if (!sums && rank.at(MeshAxis::sequence) != 0) return;
        if (p.cut.whole() && rank.at(MeshAxis::tensor) != 0) return;  // the others hold the same
        if (!sums && !dealt_out && rank.at(MeshAxis::data) != 0) return;
        Piece piece = piece_of(rank, p, field, dealt_out && !sums);
        if (!piece.data || (sums && rank.backwards == 0)) return;
        rank.note(piece.fetch());
        const CutCopy copy(definition.shape, is_cut(p, field) ? p.cut : Cut{}, rank.at(MeshAxis::tensor), ranks_.extent(MeshAxis::tensor));
        if (!is_cut(p, field)) {
            std::copy_n(piece.data, piece.elements.size(), out);
            return;
        }
        copy.runs([&](int64_t whole, int64_t part, int64_t n) {
            const int64_t begin = std::max(part, piece.elements.begin), end = std::min(part + n, piece.elements.end);
            for (int64_t i = begin; i < end; ++i) {
                float& to = out[whole + i - part];
                to = piece.data[i - piece.elements.begin] + (sums ? to : 0.0f);
            }
        });
    });
}

void WholeParams::write(const Param& definition, Field field, const float* from) {
    holders(definition, [&](Rank& rank, Param& p) {
        Piece piece = piece_of(rank, p, field, false);
        if (!piece.data) return;
        rank.note(piece.fetch());
        if (!is_cut(p, field)) {
            std::copy_n(from, piece.elements.size(), piece.data);
        } else {
            const CutCopy copy(definition.shape, p.cut, rank.at(MeshAxis::tensor), ranks_.extent(MeshAxis::tensor));
            copy.runs([&](int64_t whole, int64_t part, int64_t n) {
                const int64_t begin = std::max(part, piece.elements.begin), end = std::min(part + n, piece.elements.end);
                if (end > begin) std::copy_n(from + whole + begin - part, end - begin, piece.data + begin - piece.elements.begin);
            });
        }
        rank.note(piece.put_back());
        if (field.kind == Field::weight) rank.note(rank.params->refresh_low(p));
    });
}

}  // namespace ds
