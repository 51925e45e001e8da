#include "engine/pack.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace ds {
namespace {

constexpr int64_t kIgnore = -100;

// One batch on its way into a stream.
class Packer {
public:
    Packer(const Model& model, const Batch& batch, const std::set<std::string>& outputs, bool whole, int64_t first_row)
        : model_(model), batch_(batch), outputs_(outputs), whole_(whole || model.task == Task::question_answering), first_row_(first_row) {}

    Result<Packed> run() {
        DS_CHECK(read());
        DS_CHECK(read_labels());
        choose();
        stream();
        label_rows();
        out_.part_weight = out_.label_count;
        return std::move(out_);
    }

private:
    // An integer tensor of the batch as i32, checked to be [rows, length] (or [rows]) and within [least, most].
    Result<std::vector<int32_t>> integers(const char* name, const Shape& shape, int64_t least, int64_t most, bool ignore_allowed = false) {
        const HostTensor& t = batch_.at(name);
        if (is_float(t.dtype)) return fail(Code::E_INVALID_ARGUMENT, "{}: must hold integers, not {}", name, name_of(t.dtype));
        if (t.shape != shape) return fail(Code::E_INVALID_ARGUMENT, "{}: must be {} as input_ids demands, but is {}", name, shape, t.shape);
        const HostTensor wide = t.to(DType::i64);
        std::vector<int32_t> values(static_cast<size_t>(wide.count()));
        const auto source = wide.as<int64_t>();
        for (size_t i = 0; i < values.size(); ++i) {
            const int64_t x = source[i];
            if ((x < least || x > most) && !(ignore_allowed && x == kIgnore)) {
                const auto columns = static_cast<size_t>(shape.back());
                const std::string place = shape.size() == 1 ? fmt::format("[{}]", i) : fmt::format("[{}, {}]", i / columns, i % columns);
                return fail(Code::E_INVALID_ARGUMENT, "{}: element {} is {}, outside {}..{}{}", name, place, x, least, most, ignore_allowed ? " and not -100 (ignored)" : "");
            }
            values[i] = static_cast<int32_t>(x);
        }
        return values;
    }

    Status read() {
        static constexpr std::string_view known[] = {"input_ids", "attention_mask", "token_type_ids", "position_ids", "labels", "start_positions", "end_positions"};
        for (const auto& [name, tensor] : batch_)
            if (std::find(std::begin(known), std::end(known), name) == std::end(known))
                return fail(Code::E_INVALID_ARGUMENT, "batch: {} is not an input of {}; it takes input_ids, attention_mask, token_type_ids, position_ids, labels, start_positions and end_positions",
                            name, model_.family);
        if (!batch_.count("input_ids")) return fail(Code::E_INVALID_ARGUMENT, "batch: input_ids is missing");
        const Shape& shape = batch_.at("input_ids").shape;
        if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) return fail(Code::E_INVALID_ARGUMENT, "input_ids: must be [rows, length] with at least one of each, but is {}", shape);
        rows_ = shape[0];
        length_ = shape[1];
        grid_ = shape;
        const size_t n = static_cast<size_t>(rows_ * length_);
        DS_TRY(ids_, integers("input_ids", grid_, 0, model_.vocabulary - 1));
        mask_.assign(n, 1);
        if (batch_.count("attention_mask")) {
            const HostTensor& t = batch_.at("attention_mask");
            if (t.shape != grid_) return fail(Code::E_INVALID_ARGUMENT, "attention_mask: must be {} as input_ids demands, but is {}", grid_, t.shape);
            const HostTensor wide = t.to(DType::f32);
            for (size_t i = 0; i < n; ++i) mask_[i] = wide.as<float>()[i] != 0;
        }
        types_.assign(n, 0);
        if (batch_.count("token_type_ids")) {
            DS_TRY(types_, integers("token_type_ids", grid_, 0, (model_.token_types ? model_.token_types : model_.vocabulary) - 1));
            out_.shape.types = true;
        }
        return positions();
    }

    Status positions() {
        if (batch_.count("position_ids")) {
            DS_TRY(positions_, integers("position_ids", grid_, 0, (model_.max_positions ? model_.max_positions : int64_t{1} << 30) - 1));
            return ok();
        }
        if (model_.max_positions && length_ > model_.max_positions)
            return fail(Code::E_INVALID_ARGUMENT, "input_ids: {} tokens a row, but {} has {} positions", length_, model_.family, model_.max_positions);
        positions_.resize(ids_.size());
        for (size_t i = 0; i < ids_.size(); ++i) positions_[i] = static_cast<int32_t>(static_cast<int64_t>(i) % length_);
        return ok();
    }

    // targets_[i]: the label that position i predicts. Causal labels come unshifted: a position predicts the next one's.
    Status read_labels() {
        targets_.assign(ids_.size(), static_cast<int32_t>(kIgnore));
        switch (model_.task) {
        case Task::none: return refuse_labels("labels");
        case Task::sequence_classification:
            if (!batch_.count("labels")) return ok();
            out_.labels = true;
            return row_labels("labels", "row_labels", model_.labels - 1);
        case Task::question_answering: {
            DS_CHECK(refuse_labels("labels"));
            if (batch_.count("start_positions") != batch_.count("end_positions"))
                return fail(Code::E_INVALID_ARGUMENT, "batch: start_positions and end_positions must come together");
            if (!batch_.count("start_positions")) return ok();
            out_.labels = true;
            DS_CHECK(row_labels("start_positions", "start_positions", -1));
            return row_labels("end_positions", "end_positions", -1);
        }
        default: break;
        }
        if (!batch_.count("labels")) return ok();
        out_.labels = true;
        const bool causal = model_.task == Task::causal_lm;
        DS_TRY(const auto labels, integers("labels", grid_, 0, (model_.task == Task::token_classification ? model_.labels : model_.vocabulary) - 1, true));
        for (int64_t r = 0; r < rows_; ++r)
            for (int64_t t = 0; t + causal < length_; ++t) targets_[static_cast<size_t>(r * length_ + t)] = labels[static_cast<size_t>(r * length_ + t + causal)];
        return ok();
    }

    Status refuse_labels(const char* name) {
        if (batch_.count(name)) return fail(Code::E_INVALID_ARGUMENT, "batch: {}: this model has no head that takes them", name);
        return ok();
    }

    // Labels of whole rows. most < 0: positions, which transformers clamps to the length and ignores there.
    Status row_labels(const char* name, const char* input, int64_t most) {
        const bool places = most < 0;
        DS_TRY(auto labels, integers(name, {rows_}, places ? INT32_MIN : 0, places ? INT32_MAX : most, true));
        for (int32_t& label : labels) {
            if (places && label != kIgnore) label = label < 0 ? 0 : label;
            if (places && label >= length_) label = static_cast<int32_t>(kIgnore);
            out_.label_count += label != kIgnore;
        }
        put(input, labels, {rows_});
        return ok();
    }

    void put(const std::string& name, const std::vector<int32_t>& values, Shape shape) {
        out_.inputs[name] = HostTensor::of<int32_t>(DType::i32, std::move(shape), values);
    }

    bool needs_first() const { return model_.task == Task::sequence_classification || (model_.task == Task::none && model_.token_types > 0); }

    void choose() {
        for (size_t i = 0; i < ids_.size(); ++i) {
            const bool needed = whole_ || targets_[i] != kIgnore || (needs_first() && static_cast<int64_t>(i) % length_ == 0);
            out_.tokens += mask_[i];
            if (!mask_[i] && !needed) continue;
            out_.shape.masked |= !mask_[i];
            out_.places.push_back(static_cast<int32_t>(i));
        }
        const auto count = static_cast<int64_t>(out_.places.size());
        out_.shape.rows = rows_;
        out_.shape.length = length_;
        out_.shape.tokens = count == rows_ * length_ ? count : bucket(count);
        out_.shape.labels = out_.labels;
        out_.grid = grid_;
        // Only a softmax over positions depends on the length; other plans serve all lengths.
        if (model_.task != Task::question_answering) out_.shape.length = 0;
    }

    void stream() {
        const auto n = static_cast<size_t>(out_.shape.tokens);
        std::vector<int32_t> ids(n, 0), places(n, 0), positions(n, 0), types(n, 0), segments(1, 0), first;
        std::vector<uint8_t> key_mask(n, 0);
        int64_t row = 0;
        for (size_t i = 0; i < out_.places.size(); ++i) {
            const auto at = static_cast<size_t>(out_.places[i]);
            for (; static_cast<int64_t>(at) / length_ > row; ++row) segments.push_back(static_cast<int32_t>(i));
            if (static_cast<int64_t>(at) % length_ == 0) first.push_back(static_cast<int32_t>(i));
            ids[i] = ids_[at];
            places[i] = static_cast<int32_t>(first_row_ * length_ + static_cast<int64_t>(at));
            positions[i] = positions_[at];
            types[i] = types_[at];
            key_mask[i] = mask_[at];
        }
        while (static_cast<int64_t>(segments.size()) <= rows_) segments.push_back(static_cast<int32_t>(out_.places.size()));
        put("ids", ids, {out_.shape.tokens});
        put("places", places, {out_.shape.tokens});
        put("positions", positions, {out_.shape.tokens});
        put("types", types, {out_.shape.tokens});
        put("segments", segments, {rows_ + 1});
        std::vector<int32_t> row_places(static_cast<size_t>(rows_));
        std::iota(row_places.begin(), row_places.end(), static_cast<int32_t>(first_row_));
        put("row_places", row_places, {rows_});
        if (needs_first()) put("first", first, {rows_});
        out_.inputs["key_mask"] = HostTensor::of<uint8_t>(DType::u8, {out_.shape.tokens}, key_mask);
    }

    // Where few tokens have labels, only their rows go through the head.
    void label_rows() {
        out_.shape.labelled = out_.shape.tokens;
        if (!out_.labels || !model_.token_labels()) return;
        std::vector<int32_t> rows, labels;
        std::vector<int32_t> in_place(static_cast<size_t>(out_.shape.tokens), static_cast<int32_t>(kIgnore));
        for (size_t i = 0; i < out_.places.size(); ++i) {
            const int32_t target = targets_[static_cast<size_t>(out_.places[i])];
            if (target == kIgnore) continue;
            in_place[i] = target;
            rows.push_back(static_cast<int32_t>(i));
            labels.push_back(target);
        }
        out_.label_count = static_cast<int64_t>(labels.size());
        const int64_t few = bucket(std::max<int64_t>(out_.label_count, 1));
        if (outputs_.count("logits") || few * 10 > out_.shape.tokens * 9) return put("labels", in_place, {out_.shape.tokens});
        out_.shape.labelled = few;
        rows.resize(static_cast<size_t>(few), 0);  // ignored labels: whichever row
        labels.resize(static_cast<size_t>(few), static_cast<int32_t>(kIgnore));
        std::vector<int32_t> places(rows.size(), 0);
        for (size_t i = 0; i < rows.size(); ++i)
            if (rows[i] >= 0) places[i] = static_cast<int32_t>(first_row_ * length_) + out_.places[static_cast<size_t>(rows[i])];
        put("label_places", places, {few});
        put("label_rows", rows, {few});
        put("labels", labels, {few});
    }

    const Model& model_;
    const Batch& batch_;
    const std::set<std::string>& outputs_;
    const bool whole_;
    const int64_t first_row_;
    int64_t rows_ = 0, length_ = 0;
    Shape grid_;
    std::vector<int32_t> ids_, types_, positions_, targets_;
    std::vector<uint8_t> mask_;
    Packed out_;
};

}  // namespace

int64_t bucket(int64_t tokens) {
    const auto grain = std::max<int64_t>(8, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(tokens, 1)))) / 16);
    return (tokens + grain - 1) / grain * grain;
}

Result<Packed> pack_for_model(const Model& model, const Batch& batch, const std::set<std::string>& outputs, bool whole, int64_t first_row) {
    return Packer(model, batch, outputs, whole, first_row).run();
}

}  // namespace ds
