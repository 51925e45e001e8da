// Extractive question answering: question and context in one row; the answer's characters become its first and last token.
//
// Only the context is truncated. With a stride, a long context becomes several windows that overlap by that many tokens; where a
// window does not hold the whole answer, start and end point at the first special token, as for questions without an answer.
#include "data/tasks/task.h"

#include <algorithm>

namespace ds {
namespace {

size_t code_points(std::string_view text) {
    return static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

// The byte where code point n begins, or npos past the end (n = the text's length gives its size).
size_t byte_of(std::string_view text, size_t n) {
    size_t at = 0;
    for (; n > 0 && at < text.size(); --n) {
        ++at;
        while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
    }
    return n == 0 ? at : std::string_view::npos;
}

struct Span {
    int64_t begin = 0, end = 0;  // code points of the context; empty = no answer
};

class QuestionAnswering : public DataTask {
public:
    explicit QuestionAnswering(const TaskSetup& setup)
        : tokenizer_(setup.tokenizer),
          max_length_(setup.max_length),
          stride_(setup.options.stride),
          question_(*setup.columns.find("question")),
          context_(*setup.columns.find("context")),
          answer_(setup.columns.find("answer")),
          start_(setup.columns.find("answer_start")) {}

    Target target() const override { return answer_ ? Target::span : Target::none; }
    bool emits_types() const override { return true; }
    bool counts_parts() const override { return stride_ > 0; }

    Status check(const Record& record) const override {
        DS_CHECK(filled_text_of(record[question_], "question").status());
        DS_CHECK(filled_text_of(record[context_], "context").status());
        return answer_ ? span_of(record).status() : ok();
    }

    Result<int64_t> parts(const Record& record) const override {
        DS_TRY(const Encoding encoding, encode(record));
        DS_TRY(const Windows windows, windows_of(encoding));
        return windows.count;
    }

    Result<Sample> sample(const Record& record, int64_t part) const override {
        Span span;
        if (answer_) { DS_TRY(span, span_of(record)); }
        DS_TRY(Encoding whole, encode(record));
        DS_TRY(const Windows windows, windows_of(whole));
        const Encoding window = cut(std::move(whole), windows.first + part * windows.step, windows.room);
        const auto [start, end] = tokens_of(window, span);
        Sample out = to_sample(window);
        for (size_t i = 0; i < window.size(); ++i)
            out.context.push_back(window.sequence[i] == 1 ? window.offsets[i] : std::pair<int64_t, int64_t>{-1, -1});
        out.start = start;
        out.end = end;
        return out;
    }

private:
    struct Windows {
        int64_t first = 0;  // token of the context's beginning
        int64_t room = 0;   // tokens of context a window holds
        int64_t step = 0;
        int64_t count = 1;
    };

    Result<Encoding> encode(const Record& record) const { return tokenizer_->encode(record[question_].text, record[context_].text, {}); }

    Result<Windows> windows_of(const Encoding& encoding) const {
        const int64_t context = std::count(encoding.sequence.begin(), encoding.sequence.end(), 1);
        const int64_t others = static_cast<int64_t>(encoding.size()) - context;
        Windows out;
        out.first = std::find(encoding.sequence.begin(), encoding.sequence.end(), 1) - encoding.sequence.begin();
        out.room = max_length_ > 0 ? max_length_ - others : context;
        if (max_length_ > 0 && out.room <= stride_)
            return fail(
                Code::E_CORRUPT,
                "column question: {} tokens with special ones leave {} of max_length {} for the context; more than stride ({}) are needed",
                others, std::max<int64_t>(out.room, 0), max_length_, stride_);
        out.step = out.room - stride_;
        if (stride_ > 0 && context > out.room) out.count = 1 + (context - out.room + out.step - 1) / out.step;
        return out;
    }

    // Keeps `room` tokens of the context from token `first` on, and everything that is not context.
    static Encoding cut(Encoding whole, int64_t first, int64_t room) {
        size_t kept = 0;
        for (size_t i = 0; i < whole.size(); ++i) {
            const auto at = static_cast<int64_t>(i);
            if (whole.sequence[i] == 1 && (at < first || at >= first + room)) continue;
            whole.ids[kept] = whole.ids[i];
            whole.type_ids[kept] = whole.type_ids[i];
            whole.offsets[kept] = whole.offsets[i];
            whole.special[kept] = whole.special[i];
            whole.word_ids[kept] = whole.word_ids[i];
            whole.sequence[kept] = whole.sequence[i];
            ++kept;
        }
        whole.ids.resize(kept);
        whole.type_ids.resize(kept);
        whole.offsets.resize(kept);
        whole.special.resize(kept);
        whole.word_ids.resize(kept);
        whole.sequence.resize(kept);
        return whole;
    }

    std::pair<int64_t, int64_t> tokens_of(const Encoding& window, Span span) const {
        const auto first_special = std::find(window.special.begin(), window.special.end(), uint8_t{1});
        const int64_t none = first_special == window.special.end() ? 0 : first_special - window.special.begin();
        int64_t start = -1, end = -1;
        bool begins = false, ends = false;
        for (size_t i = 0; i < window.size(); ++i) {
            if (window.sequence[i] != 1) continue;
            const auto [a, b] = window.offsets[i];
            begins |= a <= span.begin;
            ends |= b >= span.end;
            if (a <= span.begin) start = static_cast<int64_t>(i);
            if (b >= span.end && end < 0) end = static_cast<int64_t>(i);
        }
        if (span.begin == span.end || !begins || !ends || end < start) return {none, none};
        return {start, end};
    }

    // A list's first item counts, as in SQuAD's {"text": [...], "answer_start": [...]}; an empty list is no answer.
    static const Cell& first_of(const Cell& value) {
        static const Cell nothing;
        if (value.kind != Cell::Kind::list) return value;
        return value.items.empty() ? nothing : value.items[0];
    }

    Result<Span> span_of(const Record& record) const {
        const Cell& answer = first_of(record[*answer_]);
        if (answer.kind == Cell::Kind::null) return Span{};
        DS_TRY(const std::string_view text, text_of(answer, "answer"));
        if (text.empty()) return Span{};
        const std::string& context = record[context_].text;
        size_t at = context.find(text);
        if (start_) {
            const Cell& start = first_of(record[*start_]);
            const std::optional<int64_t> number = integer_of(start.text);
            if (!number || *number < 0)
                return fail(Code::E_CORRUPT, "column answer_start: found {}, a count of code points from 0 is accepted", describe(start));
            const size_t length = code_points(context);
            if (static_cast<size_t>(*number) + code_points(text) > length)
                return fail(Code::E_CORRUPT, "column answer_start: the answer's {} code points from {} on end past the context's {}",
                            code_points(text), *number, length);
            at = byte_of(context, static_cast<size_t>(*number));
            if (context.compare(at, text.size(), text) != 0)
                return fail(Code::E_CORRUPT, "column answer_start: the context has \"{}\" at code point {}, the answer is \"{}\"",
                            excerpt(context.substr(at, byte_of(std::string_view(context).substr(at), code_points(text)))), *number,
                            excerpt(text));
        } else if (at == context.npos) {
            return fail(Code::E_CORRUPT, "column answer: \"{}\" is not in the context", excerpt(text));
        }
        const auto begin = static_cast<int64_t>(code_points(std::string_view(context).substr(0, at)));
        return Span{begin, begin + static_cast<int64_t>(code_points(text))};
    }

    std::shared_ptr<const Tokenizer> tokenizer_;
    int64_t max_length_, stride_;
    size_t question_, context_;
    std::optional<size_t> answer_, start_;
};

}  // namespace

std::vector<std::string> answers_of(const Cell& value) {
    std::vector<std::string> out;
    for (const Cell& item : value.kind == Cell::Kind::list ? value.items : std::vector<Cell>{value})
        if (!item.text.empty()) out.push_back(item.text);
    return out;
}

std::string code_points_of(std::string_view text, int64_t begin, int64_t end) {
    const size_t from = byte_of(text, static_cast<size_t>(begin)), to = byte_of(text, static_cast<size_t>(end));
    return from > to || to == std::string_view::npos ? "" : std::string(text.substr(from, to - from));
}

Result<std::unique_ptr<DataTask>> make_question_answering(TaskSetup setup) {
    if (setup.columns.has("answer_start") && !setup.columns.has("answer"))
        return fail(Code::E_CONFIG, "data: columns: answer_start needs a column for answer");
    if (setup.options.stride > 0 && setup.max_length == 0) return fail(Code::E_CONFIG, "data: stride: has no effect without max_length");
    return std::unique_ptr<DataTask>(std::make_unique<QuestionAnswering>(setup));
}

}  // namespace ds
