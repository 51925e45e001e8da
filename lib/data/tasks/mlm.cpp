// Masked language modelling (Devlin et al. 2018, arXiv 1810.04805): 15 % of the tokens become labels; of these 80 % are shown as the
// mask token, 10 % as a random token, 10 % as they are. Which ones is a function of seed, epoch, sample and token alone.
#include "data/tasks/task.h"

namespace ds {
namespace {

class MaskedText : public DataTask {
public:
    MaskedText(const TaskSetup& setup, Affixes around)
        : input_(setup),
          tokenizer_(setup.tokenizer),
          around_(std::move(around)),
          options_(setup.options),
          mask_(*setup.tokenizer->mask_id()),
          vocabulary_(setup.tokenizer->vocabulary_size()) {
        if (setup.vocabulary_size > 0 && setup.vocabulary_size < vocabulary_) vocabulary_ = setup.vocabulary_size;
    }
    Target target() const override { return Target::tokens; }
    bool emits_types() const override { return input_.has_pair(); }
    Status check(const Record& record) const override { return input_.check(record); }
    Result<Sample> sample(const Record& record, int64_t) const override { return input_.encode(record); }

    Result<Sample> block(std::vector<int32_t> ids) const override {
        Sample out;
        out.ids = around_.before;
        out.ids.insert(out.ids.end(), ids.begin(), ids.end());
        out.ids.insert(out.ids.end(), around_.behind.begin(), around_.behind.end());
        for (const int32_t id : out.ids) out.special.push_back(tokenizer_->is_special(id));
        out.types.assign(out.ids.size(), 0);
        return out;
    }
    int64_t block_overhead() const override { return static_cast<int64_t>(around_.before.size() + around_.behind.size()); }
    Affixes document_affixes() const override {
        const auto end = tokenizer_->sep_id();
        return options_.pack && end ? Affixes{{}, {*end}} : Affixes{};
    }

    void disturb(Sample& sample, CounterRandom random) const override {
        sample.labels.assign(sample.ids.size(), kIgnored);
        const CounterRandom chosen = random.at(0), shown = random.at(1), replacement = random.at(2);
        size_t first = 0;  // of the token's group: itself, or its word's first token
        for (size_t i = 0; i < sample.ids.size(); ++i) {
            if (i < sample.special.size() && sample.special[i]) continue;
            if (!options_.whole_words || !continues(sample, i)) first = i;
            if (chosen.unit(first) >= options_.mask_probability) continue;
            sample.labels[i] = sample.ids[i];
        }
        for (size_t i = 0; i < sample.ids.size(); ++i) {
            if (sample.labels[i] == kIgnored) continue;
            const double u = shown.unit(i);
            if (u < options_.mask_replace) sample.ids[i] = mask_;
            else if (u < options_.mask_replace + options_.mask_random) sample.ids[i] = random_token(replacement.at(i), sample.ids[i]);
        }
    }

private:
    bool continues(const Sample& sample, size_t i) const {
        if (i == 0 || (!sample.special.empty() && sample.special[i - 1])) return false;
        if (!sample.words.empty()) return sample.words[i] >= 0 && sample.words[i] == sample.words[i - 1];
        return tokenizer_->continues_word(sample.ids[i]);
    }
    // Special tokens would tell the model that it looks at noise; a vocabulary has few, so some draws do.
    int32_t random_token(CounterRandom random, int32_t otherwise) const {
        for (uint64_t draw = 0; draw < 64; ++draw) {
            const auto id = static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary_), draw));
            if (!tokenizer_->is_special(id)) return id;
        }
        return otherwise;
    }

    TextInput input_;
    std::shared_ptr<const Tokenizer> tokenizer_;
    Affixes around_;
    DataOptions options_;
    int32_t mask_;
    int64_t vocabulary_;
};

}  // namespace

Result<std::unique_ptr<DataTask>> make_mlm(TaskSetup setup) {
    if (!setup.tokenizer || !setup.tokenizer->mask_id())
        return fail(Code::E_CONFIG, "data: task mlm needs a tokenizer with a mask token, such as [MASK]");
    DS_TRY(Affixes around, affixes(*setup.tokenizer));
    return std::unique_ptr<DataTask>(std::make_unique<MaskedText>(setup, std::move(around)));
}

}  // namespace ds
