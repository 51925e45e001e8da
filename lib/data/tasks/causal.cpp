// Causal language modelling: every token is a label (unshifted, as transformers has it); of a prompt and its response only the response.
//
// Prompt and response are tokenised apart, so that training sees the ids that generation after this prompt will see.
#include "data/tasks/task.h"

#include <algorithm>

#include "data/chat.h"
#include "data/tokenizer/unicode.h"

namespace ds {
namespace {

constexpr std::string_view kTemplate = "### Instruction:\n{instruction}\n\n### Response:\n";
constexpr std::string_view kTemplateWithInput = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n";
constexpr const char* kPlaceholders[] = {"instruction", "input", "prompt"};

// The token that ends a document, or none where the template ends texts already or options say so.
Result<std::vector<int32_t>> end_of_text(const TaskSetup& setup, const Affixes& around) {
    const bool wanted = setup.options.append_eos && setup.tokenizer && around.behind.empty() && setup.tokenizer->eos_id();
    return wanted ? std::vector<int32_t>{*setup.tokenizer->eos_id()} : std::vector<int32_t>{};
}

Sample labelled(std::vector<int32_t> ids) {
    Sample out;
    out.types.assign(ids.size(), 0);
    out.labels = ids;
    out.ids = std::move(ids);
    return out;
}

class CausalText : public DataTask {
public:
    CausalText(const TaskSetup& setup, Affixes around, std::vector<int32_t> end)
        : input_(setup),
          around_(std::move(around)),
          end_(std::move(end)),
          max_length_(setup.max_length),
          given_(setup.columns.has("input_ids")) {}
    Target target() const override { return Target::tokens; }
    Status check(const Record& record) const override { return input_.check(record); }
    Result<Sample> sample(const Record& record, int64_t) const override {
        DS_TRY(Sample sample, input_.encode(record));
        const bool room = max_length_ == 0 || static_cast<int64_t>(sample.ids.size()) < max_length_;
        if (room && !given_) sample.ids.insert(sample.ids.end(), end_.begin(), end_.end());
        return labelled(std::move(sample.ids));
    }
    Result<Sample> block(std::vector<int32_t> ids) const override { return labelled(std::move(ids)); }
    Affixes document_affixes() const override { return {around_.before, around_.behind.empty() ? end_ : around_.behind}; }

private:
    TextInput input_;
    Affixes around_;
    std::vector<int32_t> end_;
    int64_t max_length_;
    bool given_;
};

class CausalResponse : public DataTask {
public:
    CausalResponse(const TaskSetup& setup, Affixes around, std::vector<int32_t> end, std::string prompt)
        : tokenizer_(setup.tokenizer),
          columns_(setup.columns),
          around_(std::move(around)),
          end_(std::move(end)),
          prompt_(std::move(prompt)),
          response_(*setup.columns.find("response")),
          max_length_(setup.max_length) {}
    Target target() const override { return Target::tokens; }

    Status check(const Record& record) const override {
        DS_CHECK(text_of(record[response_], "response").status());
        return prompt(record).status();
    }

    Result<Sample> sample(const Record& record, int64_t) const override {
        DS_TRY(const std::string text, prompt(record));
        DS_TRY(const Encoding before, tokenizer_->encode(text, std::nullopt, {.add_special_tokens = false, .max_length = 0}));
        DS_TRY(const Encoding answer,
               tokenizer_->encode(record[response_].text, std::nullopt, {.add_special_tokens = false, .max_length = 0}));
        Sample out;
        for (const auto* part : {&around_.before, &before.ids}) out.ids.insert(out.ids.end(), part->begin(), part->end());
        out.labels.assign(out.ids.size(), kIgnored);
        for (const auto* part : {&answer.ids, around_.behind.empty() ? &end_ : &around_.behind}) {
            out.ids.insert(out.ids.end(), part->begin(), part->end());
            out.labels.insert(out.labels.end(), part->begin(), part->end());
        }
        if (max_length_ > 0 && static_cast<int64_t>(out.ids.size()) > max_length_) {
            out.ids.resize(static_cast<size_t>(max_length_));
            out.labels.resize(static_cast<size_t>(max_length_));
        }
        out.types.assign(out.ids.size(), 0);
        return out;
    }

private:
    // The template with the row's texts in place of {role}.
    Result<std::string> prompt(const Record& record) const {
        std::string out;
        for (size_t at = 0; at < prompt_.size();) {
            const std::string_view rest = std::string_view(prompt_).substr(at);
            bool replaced = false;
            for (const char* role : kPlaceholders) {
                const std::string holder = fmt::format("{{{}}}", role);
                if (!rest.starts_with(holder)) continue;
                const Cell& value = record[*columns_.find(role)];
                if (value.kind != Cell::Kind::null) {  // an instruction without input
                    DS_TRY(const std::string_view text, text_of(value, role));
                    out += text;
                }
                at += holder.size();
                replaced = true;
                break;
            }
            if (!replaced) out += prompt_[at++];
        }
        return out;
    }

    std::shared_ptr<const Tokenizer> tokenizer_;
    Columns columns_;
    Affixes around_;
    std::vector<int32_t> end_;
    std::string prompt_;
    size_t response_;
    int64_t max_length_;
};

// Conversations, written out by a chat template. A token counts where any of its text is the assistant's, as in transformers' mask.
class CausalChat : public DataTask {
public:
    CausalChat(const TaskSetup& setup, ChatTemplate chat)
        : tokenizer_(setup.tokenizer), chat_(std::move(chat)), messages_(*setup.columns.find("messages")), max_length_(setup.max_length) {}
    Target target() const override { return Target::tokens; }
    Status check(const Record& record) const override { return conversation(record).status(); }

    Result<Sample> sample(const Record& record, int64_t) const override {
        DS_TRY(const ChatTemplate::Conversation all, conversation(record));
        DS_TRY(const Encoding encoding,
               tokenizer_->encode(all.text, std::nullopt, {.add_special_tokens = false, .max_length = max_length_}));
        Sample out;
        out.ids = encoding.ids;
        out.types.assign(out.ids.size(), 0);
        out.labels.assign(out.ids.size(), kIgnored);
        size_t i = 0;
        for (const auto& [begin, end] : all.said) {
            const auto first = code_points(all.text, begin), last = code_points(all.text, end);
            for (; i < encoding.size() && encoding.offsets[i].second <= first; ++i) {}
            for (; i < encoding.size() && encoding.offsets[i].first < last; ++i) out.labels[i] = out.ids[i];
        }
        return out;
    }

private:
    static int64_t code_points(const std::string& text, size_t bytes) {
        return static_cast<int64_t>(tokenizer::count_code_points(std::string_view(text).substr(0, bytes)));
    }
    Result<ChatTemplate::Conversation> conversation(const Record& record) const {
        const Cell& value = record[messages_];
        OrderedJson messages = OrderedJson::array();
        if (value.kind == Cell::Kind::text) {  // a field of CSV holds JSON
            DS_TRY(messages, parse_json<OrderedJson>(value.text, "column messages"));
        }
        for (const Cell& item : value.items) {
            OrderedJson message = item.text;
            if (item.kind == Cell::Kind::object) { DS_TRY(message, parse_json<OrderedJson>(item.text, "column messages")); }
            messages.push_back(std::move(message));
        }
        auto made = chat_.conversation(messages);
        if (!made.ok()) return std::move(std::move(made).status()).within("column messages");
        if (made->said.empty())
            return fail(Code::E_CORRUPT,
                        "column messages: the assistant says nothing in this conversation, so nothing can be learned from it");
        return made;
    }

    std::shared_ptr<const Tokenizer> tokenizer_;
    ChatTemplate chat_;
    size_t messages_;
    int64_t max_length_;
};

Result<std::string> prompt_template(const TaskSetup& setup) {
    const Columns& columns = setup.columns;
    std::string text = setup.options.prompt_template;
    if (text.empty()) {
        if (columns.has("prompt")) text = "{prompt}";
        else if (columns.has("instruction")) text = columns.has("input") ? kTemplateWithInput : kTemplate;
        else
            return fail(Code::E_CONFIG,
                        "data: columns: task causal with response needs a column for prompt or instruction, or prompt_template");
    }
    for (const char* role : kPlaceholders) {
        const bool used = text.find(fmt::format("{{{}}}", role)) != text.npos;
        if (used && !columns.has(role)) return fail(Code::E_CONFIG, "data: prompt_template: {{{}}} needs a column for {}", role, role);
        if (!used && columns.has(role))
            return fail(Code::E_CONFIG, "data: columns: {}: the prompt's template does not use it; {{{}}} would", role, role);
    }
    return text;
}

}  // namespace

Result<std::unique_ptr<DataTask>> make_causal(TaskSetup setup) {
    Affixes around;
    if (setup.tokenizer) { DS_TRY(around, affixes(*setup.tokenizer)); }
    DS_TRY(std::vector<int32_t> end, end_of_text(setup, around));
    if (setup.columns.has("response")) {
        DS_TRY(std::string prompt, prompt_template(setup));
        if (setup.options.block_length > 0)
            return fail(Code::E_CONFIG, "data: block_length: has no effect with columns.response; a row is a prompt and its response");
        return std::unique_ptr<DataTask>(std::make_unique<CausalResponse>(setup, std::move(around), std::move(end), std::move(prompt)));
    }
    for (const char* role : kPlaceholders)
        if (setup.columns.has(role)) return fail(Code::E_CONFIG, "data: columns: {}: needs a column for response", role);
    if (setup.columns.has("messages")) {
        if (setup.options.block_length > 0)
            return fail(Code::E_CONFIG, "data: block_length: has no effect with columns.messages; a row is a conversation");
        if (!setup.options.prompt_template.empty())
            return fail(Code::E_CONFIG, "data: prompt_template: has no effect with columns.messages; chat_template has");
        auto chat = ChatTemplate::load(*setup.tokenizer, setup.options.chat_template);
        if (!chat.ok()) return std::move(std::move(chat).status()).within("data: chat_template");
        return std::unique_ptr<DataTask>(std::make_unique<CausalChat>(setup, std::move(chat).value()));
    }
    if (!setup.options.chat_template.empty()) return fail(Code::E_CONFIG, "data: chat_template: has no effect without columns.messages");
    if (!setup.options.prompt_template.empty())
        return fail(Code::E_CONFIG, "data: prompt_template: has no effect without columns.response");
    return std::unique_ptr<DataTask>(std::make_unique<CausalText>(setup, std::move(around), std::move(end)));
}

}  // namespace ds
