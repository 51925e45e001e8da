#include "engine/pack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace ds {
namespace {

constexpr int64_t kIgnore = -100;

// One batch on its way into a stream.
class Packer {
public:
    Packer(const Model& model, const Batch& batch, const std::set<std::string>& outputs, WholeOutputs whole, int64_t first_row)
        : model_(model), batch_(batch), outputs_(outputs), whole_(whole), first_row_(first_row) {
        whole_.tokens |= model.task == Task::question_answering;
        if (model.reads_ends) whole_.tokens = false;  // masked tokens never enter a sequence
    }

    Result<Packed> run() {
        DS_CHECK(read());
        if (model_.encoder_decoder) {
            pack_source();
            DS_CHECK(read_decoder());
        }
        DS_CHECK(read_labels());
        if (model_.reads_ends || model_.reads_last) find_ends();
        choose();
        stream("", out_.places, out_.shape.tokens);
        label_rows();
        out_.part_weight = out_.label_count;
        return std::move(out_);
    }

private:
    // An integer tensor of the batch as i32, checked to be [rows, length] (or [rows]) and within [least, most].
    Result<std::vector<int32_t>> integers(const char* name, const Shape& shape, int64_t least, int64_t most, bool ignore_allowed = false) {
        const HostTensor& t = batch_.at(name);
        if (is_float(t.dtype)) return fail(Code::E_INVALID_ARGUMENT, "{}: must hold integers, not {}", name, name_of(t.dtype));
        if (t.shape != shape)
            return fail(Code::E_INVALID_ARGUMENT, "{}: must be {} as {} demands, but is {}", name, shape,
                        model_.encoder_decoder && std::string_view(name) == "labels" ? "decoder_input_ids" : "input_ids", t.shape);
        const HostTensor wide = t.to(DType::i64);
        std::vector<int32_t> values(static_cast<size_t>(wide.count()));
        const auto source = wide.as<int64_t>();
        for (size_t i = 0; i < values.size(); ++i) {
            const int64_t x = source[i];
            if ((x < least || x > most) && !(ignore_allowed && x == kIgnore)) {
                const auto columns = static_cast<size_t>(shape.back());
                const std::string place = shape.size() == 1 ? fmt::format("[{}]", i) : fmt::format("[{}, {}]", i / columns, i % columns);
                return fail(Code::E_INVALID_ARGUMENT, "{}: element {} is {}, outside {}..{}{}", name, place, x, least, most,
                            ignore_allowed ? " and not -100 (ignored)" : "");
            }
            values[i] = static_cast<int32_t>(x);
        }
        return values;
    }

    Status read() {
        std::vector<std::string_view> known =
            model_.encoder_decoder
                ? std::vector<std::string_view>{"input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "labels"}
                : std::vector<std::string_view>{"input_ids", "attention_mask",  "token_type_ids", "position_ids",
                                                "labels",    "start_positions", "end_positions"};
        if (!model_.encoder_decoder && model_.task != Task::question_answering)
            known.resize(known.size() - 2);  // no head has a use for spans
        for (const auto& [name, tensor] : batch_)
            if (std::find(known.begin(), known.end(), name) == known.end())
                return fail(Code::E_INVALID_ARGUMENT, "batch: {} is not an input of {}; it takes {} and {}", name, model_.family,
                            fmt::join(known.begin(), known.end() - 1, ", "), known.back());
        if (!batch_.count("input_ids")) return fail(Code::E_INVALID_ARGUMENT, "batch: input_ids is missing");
        const Shape& shape = batch_.at("input_ids").shape;
        if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1)
            return fail(Code::E_INVALID_ARGUMENT, "input_ids: must be [rows, length] with at least one of each, but is {}", shape);
        rows_ = shape[0];
        length_ = shape[1];
        grid_ = shape;
        const size_t n = static_cast<size_t>(rows_ * length_);
        DS_TRY(ids_, integers("input_ids", grid_, 0, (model_.encoder_decoder ? model_.source_vocabulary : model_.vocabulary) - 1));
        DS_CHECK(read_mask("attention_mask", "input_ids"));
        types_.assign(n, 0);
        if (batch_.count("token_type_ids")) {
            DS_TRY(types_, integers("token_type_ids", grid_, 0, (model_.token_types ? model_.token_types : model_.vocabulary) - 1));
            out_.shape.types = true;
        }
        return positions("input_ids");
    }

    Status read_mask(const char* name, const char* ids_name) {
        mask_.assign(static_cast<size_t>(rows_ * length_), 1);
        if (!batch_.count(name)) return ok();
        const HostTensor& t = batch_.at(name);
        if (t.shape != grid_)
            return fail(Code::E_INVALID_ARGUMENT, "{}: must be {} as {} demands, but is {}", name, grid_, ids_name, t.shape);
        const HostTensor wide = t.to(DType::f32);
        for (size_t i = 0; i < mask_.size(); ++i) mask_[i] = wide.as<float>()[i] != 0;
        return ok();
    }

    // The encoder's stream. What is read next is the decoder's.
    void pack_source() {
        for (size_t i = 0; i < ids_.size(); ++i) {
            out_.tokens += mask_[i];
            if (!mask_[i] && !whole_.source) continue;
            out_.shape.source_masked |= !mask_[i];
            out_.source_places.push_back(static_cast<int32_t>(i));
        }
        const auto count = static_cast<int64_t>(out_.source_places.size());
        out_.shape.source_tokens = count == rows_ * length_ ? count : bucket(std::max<int64_t>(count, 1));
        out_.source_grid = grid_;
        stream("source.", out_.source_places, out_.shape.source_tokens);
    }

    // The decoder's tokens: those given, or the labels shifted right with a pad in place of ignored ones.
    Status read_decoder() {
        const bool given = batch_.count("decoder_input_ids"), labelled = batch_.count("labels"),
                   repeats = !given && !labelled && model_.decodes_its_input;
        if (!given && !labelled && !repeats)
            return fail(Code::E_INVALID_ARGUMENT, "batch: decoder_input_ids is missing: {} decodes them, or labels shifted right",
                        model_.family);
        const char* name = given ? "decoder_input_ids" : labelled ? "labels" : "input_ids";
        const Shape& shape = batch_.at(name).shape;
        if (shape.size() != 2 || shape[0] != rows_ || shape[1] < 1)
            return fail(Code::E_INVALID_ARGUMENT, "{}: must be [{} rows as input_ids has, length of at least 1], but is {}", name, rows_,
                        shape);
        grid_ = shape;
        length_ = shape[1];
        DS_TRY(ids_, integers(name, grid_, 0, model_.vocabulary - 1, labelled && !given));
        DS_CHECK(read_mask("decoder_attention_mask", name));
        types_.assign(ids_.size(), 0);
        if (!given) DS_CHECK(shift_right(name));
        return positions(name);
    }

    Status shift_right(const char* name) {
        if (!model_.decoder_start_id)
            return fail(Code::E_CONFIG,
                        "config.json: decoder_start_token_id is missing, with which {} shifted right begin; give decoder_input_ids", name);
        const std::vector<int32_t> labels = ids_;
        if (!model_.pad_id && std::count(labels.begin(), labels.end(), static_cast<int32_t>(kIgnore)))
            return fail(Code::E_CONFIG,
                        "config.json: pad_token_id is missing, which stands for ignored labels in the decoder; give decoder_input_ids");
        for (size_t i = 0; i < ids_.size(); ++i) {
            const bool first = static_cast<int64_t>(i) % length_ == 0;
            const int64_t id = first ? *model_.decoder_start_id : labels[i - 1];
            if (first && id >= model_.vocabulary)
                return fail(Code::E_CONFIG, "config.json: decoder_start_token_id {} is outside the decoder's vocabulary of {}", id,
                            model_.vocabulary);
            ids_[i] = static_cast<int32_t>(id == kIgnore ? *model_.pad_id : id);
        }
        // What stands behind a row's last label is seen by nothing that counts.
        if (batch_.count("decoder_attention_mask")) return ok();
        unseen_.assign(ids_.size(), 0);
        for (int64_t row = 0; row < rows_; ++row)
            for (int64_t t = length_; t-- > 1 && labels[static_cast<size_t>(row * length_ + t)] == kIgnore;)
                unseen_[static_cast<size_t>(row * length_ + t)] = 1;
        return ok();
    }

    Status positions(const char* ids_name) {
        if (batch_.count("position_ids")) {
            const bool table = model_.max_positions && model_.limit.empty();
            const int64_t before = model_.positions_skip == Model::Skipped::masked ? model_.position_offset : 0;
            DS_TRY(positions_, integers("position_ids", grid_, 0,
                                        (table ? model_.max_positions + model_.position_offset - before : int64_t{1} << 30) - 1));
            for (int32_t& position : positions_) position += static_cast<int32_t>(before);
            const int64_t most = *std::max_element(positions_.begin(), positions_.end());
            if (!model_.limit.empty() && most >= model_.max_positions)
                return fail(Code::E_UNSUPPORTED, "position_ids: {}, but {}", most, model_.limit);
            if (model_.splits_rows && !batch_.count("attention_mask")) split_rows();
            return ok();
        }
        if (model_.max_positions && length_ > model_.max_positions && !model_.limit.empty())
            return fail(Code::E_UNSUPPORTED, "{}: {} tokens a row, but {}", ids_name, length_, model_.limit);
        if (model_.max_positions && length_ > model_.max_positions)
            return fail(Code::E_INVALID_ARGUMENT, "{}: {} tokens a row, but {} has {} positions", ids_name, length_, model_.family,
                        model_.max_positions);
        positions_.resize(ids_.size());
        int64_t next = 0;
        for (size_t i = 0; i < ids_.size(); ++i) {
            if (static_cast<int64_t>(i) % length_ == 0) next = model_.position_offset;
            if (model_.positions_skip == Model::Skipped::pad_ids && ids_[i] == *model_.pad_id)
                positions_[i] = static_cast<int32_t>(*model_.pad_id);
            else if (model_.positions_skip == Model::Skipped::masked && !mask_[i])
                positions_[i] = static_cast<int32_t>(model_.position_offset - 1);
            else positions_[i] = static_cast<int32_t>(next++);
        }
        return ok();
    }

    // As transformers has it, which then attends within each text.
    void split_rows() {
        begins_.assign(positions_.size(), 0);
        for (size_t i = 1; i < positions_.size(); ++i)
            begins_[i] = static_cast<int64_t>(i) % length_ && positions_[i] != positions_[i - 1] + 1;
        texts_begun_ = std::count(begins_.begin(), begins_.end(), 1);
    }

    // targets_[i]: the label that position i predicts. Causal labels come unshifted: a position predicts the next one's.
    Status read_labels() {
        targets_.assign(ids_.size(), static_cast<int32_t>(kIgnore));
        switch (model_.task) {
        case Task::none: return refuse_labels("labels");
        case Task::sequence_classification:
            if (!batch_.count("labels")) return ok();
            out_.labels = true;
            out_.shape.row_loss =
                model_.row_loss.value_or(is_float(batch_.at("labels").dtype) ? RowLoss::binary_cross_entropy : RowLoss::cross_entropy);
            return out_.shape.row_loss == RowLoss::cross_entropy ? row_labels("labels", "row_labels", model_.labels - 1) : row_values();
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
        DS_TRY(const auto labels,
               integers("labels", grid_, 0, (model_.task == Task::token_classification ? model_.labels : model_.vocabulary) - 1, true));
        for (int64_t r = 0; r < rows_; ++r)
            for (int64_t t = 0; t + causal < length_; ++t)
                targets_[static_cast<size_t>(r * length_ + t)] = labels[static_cast<size_t>(r * length_ + t + causal)];
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

    // Labels that are numbers, or say yes (1) or no (0) to each class; as transformers, none is ignored.
    Status row_values() {
        const HostTensor& given = batch_.at("labels");
        const Shape whole{rows_, model_.labels};
        if (given.shape != whole && !(model_.labels == 1 && given.shape == Shape{rows_}))
            return fail(Code::E_INVALID_ARGUMENT, "labels: must be {}, one a row and label, but is {}{}", whole, given.shape,
                        model_.row_loss ? "" : " (floats say yes or no to each class; one class a row is an integer)");
        HostTensor values = given.to(DType::f32).clone();
        values.shape = whole;
        const bool shares = out_.shape.row_loss == RowLoss::binary_cross_entropy;
        for (int64_t i = 0; i < values.count(); ++i)
            if (const float x = values.as<float>()[static_cast<size_t>(i)]; !std::isfinite(x) || (shares && (x < 0 || x > 1)))
                return fail(Code::E_INVALID_ARGUMENT, "labels: element [{}, {}] is {}, {}", i / model_.labels, i % model_.labels, x,
                            shares ? "outside 0..1" : "not a finite number");
        out_.label_count = rows_;
        out_.inputs["row_values"] = std::move(values);
        return ok();
    }

    void put(const std::string& name, const std::vector<int32_t>& values, Shape shape) {
        out_.inputs[name] = HostTensor::of<int32_t>(DType::i32, std::move(shape), values);
    }

    bool needs_first() const {
        return !model_.reads_ends && !model_.reads_last &&
               (model_.task == Task::sequence_classification || (model_.task == Task::none && model_.token_types > 0));
    }

    // Where the token is whose state answers about its row; a row's first where none counts. What stands behind it is seen by nothing.
    void find_ends() {
        const bool by_id = model_.reads_last && model_.pad_id;
        ends_.resize(static_cast<size_t>(rows_));
        unseen_.assign(ids_.size(), 0);
        for (size_t row = 0; row < ends_.size(); ++row) {
            const size_t begin = row * static_cast<size_t>(length_);
            size_t end = begin + static_cast<size_t>(length_) - 1;
            for (; end > begin && !(by_id ? ids_[end] != *model_.pad_id : mask_[end] != 0); --end) unseen_[end] = 1;
            ends_[row] = static_cast<int32_t>(end);
        }
    }

    // Whether the head over rows, if there is one, reads the token at this place.
    bool is_read(size_t i) const {
        if (!ends_.empty()) return static_cast<size_t>(ends_[i / static_cast<size_t>(length_)]) == i;
        return needs_first() && static_cast<int64_t>(i) % length_ == 0;
    }

    void choose() {
        for (size_t i = 0; i < ids_.size(); ++i) {
            const bool needed = is_read(i) || whole_.tokens || targets_[i] != kIgnore;
            out_.tokens += mask_[i];
            if (!needed && (!mask_[i] || (!unseen_.empty() && unseen_[i]))) continue;
            out_.shape.masked |= !mask_[i];
            out_.places.push_back(static_cast<int32_t>(i));
        }
        const auto count = static_cast<int64_t>(out_.places.size());
        out_.shape.rows = texts_begun_ ? bucket(rows_ + texts_begun_) : rows_;
        out_.shape.length = length_;
        out_.shape.tokens = count == rows_ * length_ ? count : bucket(model_.encoder_decoder ? std::max<int64_t>(count, 1) : count);
        out_.shape.labels = out_.labels;
        out_.grid = grid_;
        // Only a softmax over positions depends on the length; other plans serve all lengths.
        if (model_.task != Task::question_answering) out_.shape.length = 0;
    }

    // Puts the operands of a stream of these places, filled up to `tokens`.
    void stream(const std::string& prefix, const std::vector<int32_t>& chosen, int64_t tokens) {
        const auto n = static_cast<size_t>(tokens);
        std::vector<int32_t> ids(n, 0), places(n, 0), positions(n, 0), types(n, 0), segments(1, 0), first, last;
        std::vector<uint8_t> key_mask(n, 0);
        std::vector<float> real(n, 0);
        int64_t row = 0;
        for (size_t i = 0; i < chosen.size(); ++i) {
            const auto at = static_cast<size_t>(chosen[i]);
            for (; static_cast<int64_t>(at) / length_ > row; ++row) segments.push_back(static_cast<int32_t>(i));
            if (texts_begun_ && begins_[at]) segments.push_back(static_cast<int32_t>(i));
            if (static_cast<int64_t>(at) % length_ == 0) first.push_back(static_cast<int32_t>(i));
            if (prefix.empty() && !ends_.empty() && is_read(at)) last.push_back(static_cast<int32_t>(i));
            ids[i] = ids_[at];
            places[i] = static_cast<int32_t>(first_row_ * length_ + static_cast<int64_t>(at));
            positions[i] = positions_[at];
            types[i] = types_[at];
            key_mask[i] = mask_[at];
            real[i] = mask_[at] ? 1.0f : 0.0f;
        }
        const int64_t rows = prefix.empty() ? out_.shape.rows : rows_;
        while (static_cast<int64_t>(segments.size()) <= rows) segments.push_back(static_cast<int32_t>(chosen.size()));
        put(prefix + "ids", ids, {tokens});
        put(prefix + "places", places, {tokens});
        put(prefix + "positions", positions, {tokens});
        put(prefix + "types", types, {tokens});
        put(prefix + "segments", segments, {rows + 1});
        out_.inputs[prefix + "real"] = HostTensor::of<float>(DType::f32, {tokens}, real);
        out_.inputs[prefix + "key_mask"] = HostTensor::of<uint8_t>(DType::u8, {tokens}, key_mask);
        if (!prefix.empty()) return;
        std::vector<int32_t> row_places(static_cast<size_t>(rows_));
        std::iota(row_places.begin(), row_places.end(), static_cast<int32_t>(first_row_));
        put("row_places", row_places, {rows_});
        if (model_.reads_ends) first.assign(segments.begin(), segments.end() - 1);
        if (!last.empty()) put("last", last, {rows_});
        if (needs_first() || model_.reads_ends) put("first", first, {rows_});
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
    WholeOutputs whole_;
    const int64_t first_row_;
    int64_t rows_ = 0, length_ = 0;
    Shape grid_;
    std::vector<int32_t> ids_, types_, positions_, targets_, ends_;  // ends_: of rows
    std::vector<uint8_t> mask_, unseen_, begins_;
    int64_t texts_begun_ = 0;  // within rows
    Packed out_;
};

}  // namespace

int64_t bucket(int64_t tokens) {
    const auto grain = std::max<int64_t>(8, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(tokens, 1)))) / 16);
    return (tokens + grain - 1) / grain * grain;
}

Result<Packed> pack_for_model(const Model& model, const Batch& batch, const std::set<std::string>& outputs, WholeOutputs whole,
                              int64_t first_row) {
    return Packer(model, batch, outputs, whole, first_row).run();
}

}  // namespace ds
