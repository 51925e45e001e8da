#include "data/collate.h"

#include <algorithm>

namespace ds {
namespace {

// One row a sample: the field's values, filled up with `padding` behind or before them.
template <class T, class Field>
HostTensor padded(std::span<const Sample> samples, DType dtype, int64_t length, bool left, T padding, Field field) {
    HostTensor out = HostTensor::zeros(dtype, {static_cast<int64_t>(samples.size()), length});
    T* row = static_cast<T*>(out.data);
    for (const Sample& sample : samples) {
        const auto& values = field(sample);
        const int64_t missing = length - static_cast<int64_t>(values.size());
        T* first = left ? std::fill_n(row, missing, padding) : row;
        T* behind = std::copy(values.begin(), values.end(), first);
        if (!left) std::fill_n(behind, missing, padding);
        row += length;
    }
    return out;
}

template <class T, class Field>
HostTensor column(std::span<const Sample> samples, DType dtype, Field field) {
    HostTensor out = HostTensor::zeros(dtype, {static_cast<int64_t>(samples.size())});
    std::transform(samples.begin(), samples.end(), static_cast<T*>(out.data),
                   [&](const Sample& sample) { return static_cast<T>(field(sample)); });
    return out;
}

template <class T>
Batch tensors(std::span<const Sample> samples, const CollateRules& rules, int64_t length, int64_t target_length) {
    Batch out;
    out["input_ids"] = padded<T>(
        samples, rules.dtype, length, rules.left, rules.pad_id, [](const Sample& s) -> const auto& { return s.ids; });
    HostTensor& mask = out["attention_mask"] = HostTensor::zeros(rules.dtype, {static_cast<int64_t>(samples.size()), length});
    for (size_t i = 0; i < samples.size(); ++i)
        std::fill_n(static_cast<T*>(mask.data) + static_cast<int64_t>(i) * length +
                        (rules.left ? length - static_cast<int64_t>(samples[i].ids.size()) : 0),
                    samples[i].ids.size(), T{1});
    if (rules.types)
        out["token_type_ids"] = padded<T>(
            samples, rules.dtype, length, rules.left, static_cast<T>(rules.pad_type),
            [](const Sample& s) -> const auto& { return s.types; });
    switch (rules.target) {
    case Target::none: break;
    case Target::tokens:
    case Target::sequence:
        out["labels"] = padded<T>(
            samples, rules.dtype, target_length, rules.left, T{kIgnored}, [](const Sample& s) -> const auto& { return s.labels; });
        break;
    case Target::label: out["labels"] = column<T>(samples, rules.dtype, [](const Sample& s) { return s.label; }); break;
    case Target::value: out["labels"] = column<float>(samples, DType::f32, [](const Sample& s) { return s.values[0]; }); break;
    case Target::values:
        out["labels"] = padded<float>(
            samples, DType::f32, static_cast<int64_t>(samples[0].values.size()), false, 0.0f,
            [](const Sample& s) -> const auto& { return s.values; });
        break;
    case Target::span:
        out["start_positions"] = column<T>(samples, rules.dtype, [](const Sample& s) { return s.start; });
        out["end_positions"] = column<T>(samples, rules.dtype, [](const Sample& s) { return s.end; });
        break;
    }
    return out;
}

}  // namespace

Result<Batch> collate(std::span<const Sample> samples, const CollateRules& rules) {
    const auto padded_length = [&](auto field, int64_t fixed, const char* option) -> Result<int64_t> {
        int64_t length = 1;
        for (const Sample& sample : samples) length = std::max(length, static_cast<int64_t>(field(sample).size()));
        if (fixed > 0 && length > fixed)
            return fail(Code::E_INVALID_ARGUMENT, "data: a row has {} tokens, {} is {}", length, option, fixed);
        if (fixed > 0) length = fixed;
        return (length + rules.multiple - 1) / rules.multiple * rules.multiple;
    };
    DS_TRY(const int64_t length, padded_length(
                                     [](const Sample& s) -> const auto& { return s.ids; }, rules.fixed_length, "max_length"));
    int64_t target = length;
    if (rules.target == Target::sequence) {
        DS_TRY(target, padded_length(
                           [](const Sample& s) -> const auto& { return s.labels; }, rules.fixed_target, "max_target_length"));
    }
    return rules.dtype == DType::i32 ? tensors<int32_t>(samples, rules, length, target) : tensors<int64_t>(samples, rules, length, target);
}

}  // namespace ds
