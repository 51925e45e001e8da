// Chat templates: equal to Jinja's own rendering (tests/data/chat/make.py), bounded, and safe with hostile templates.
#include <doctest/doctest.h>

#include "base/file.h"
#include "data/chat.h"

using namespace ds;

namespace {

std::string error_of(const std::string& text, const OrderedJson& variables = OrderedJson::object()) {
    const auto parsed = JinjaTemplate::parse(text, "chat");
    if (!parsed.ok()) return parsed.status().message();
    const auto rendered = parsed->render(variables);
    return rendered.ok() ? "" : rendered.status().message();
}

std::string repeated(const std::string& text, int times) {
    std::string out;
    for (int i = 0; i < times; ++i) out += text;
    return out;
}

bool mentions(const std::string& text, const std::string& part) {
    const bool found = text.find(part) != text.npos;
    if (!found) MESSAGE("\"" << text << "\" does not mention \"" << part << "\"");
    return found;
}

const OrderedJson kTalk =
    OrderedJson::parse(R"([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "?"},
                                                {"role": "assistant", "content": "Yes"}])");
constexpr const char* kChat =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

std::shared_ptr<const Tokenizer> some_tokenizer() {
    auto loaded = Tokenizer::load(DSRT_TEST_DATA "/tokenizers/whitespace/tokenizer.json");
    REQUIRE(loaded.ok());
    return *loaded;
}

std::vector<std::string> said(const ChatTemplate::Conversation& c) {
    std::vector<std::string> out;
    for (const auto& [begin, end] : c.said) out.push_back(c.text.substr(begin, end - begin));
    return out;
}

}  // namespace

TEST_CASE("templates/give_what_jinja_gives") {
    const auto text = read_file(DSRT_TEST_DATA "/chat/cases.json");
    REQUIRE(text.ok());
    const OrderedJson cases = OrderedJson::parse(*text);
    CHECK(cases.size() >= 40);
    for (const auto& [name, c] : cases.items()) {
        CAPTURE(name);
        const auto parsed = JinjaTemplate::parse(c["template"].get<std::string>(), name);
        CHECK_MESSAGE(parsed.ok(), parsed.status().message());
        if (!parsed.ok()) continue;
        const auto rendered = parsed->render(c["variables"]);
        CHECK_MESSAGE(rendered.ok(), rendered.status().message());
        if (rendered.ok()) CHECK(rendered->text == c["text"].get<std::string>());
    }
}

TEST_CASE("templates/errors_name_line_and_reason") {
    CHECK(mentions(error_of("a\n{{ x + }}"), "chat: line 2: expected a value, found }}"));
    CHECK(mentions(error_of("{{ 'a }}"), "a string is not closed"));
    CHECK(mentions(error_of("{% if x %}"), "the template ends where {% endif %} was expected"));
    CHECK(mentions(error_of("{% include 'x' %}"), "{% include %} is not built"));
    CHECK(mentions(error_of("{{ x | nosuch }}"), "there is no filter nosuch; there are abs"));
    CHECK(mentions(error_of("{{ x is nosuch }}"), "there is no test nosuch"));
    CHECK(mentions(error_of("{{ missing.part }}"), "missing is not defined, so it has no part"));
    CHECK(mentions(error_of("{{ 1 + 'a' }}"), "integer + string is not possible"));
    CHECK(mentions(error_of("{{ 1 // 0 }}"), "division by zero"));
    CHECK(mentions(error_of("{% break %}"), "outside of a loop"));
    CHECK(mentions(error_of("{{ raise_exception('no tools, please') }}"), "the template says: no tools, please"));
    CHECK(mentions(error_of("{# never closed"), "is not closed by #}"));
}

TEST_CASE("templates/are_bounded") {
    CHECK(mentions(error_of("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"), "steps"));
    CHECK(mentions(error_of("{{ range(99999999999) }}"), "range: has more than 1000000 elements"));
    CHECK(mentions(error_of("{{ 'x' * 99999999999 }}"), "a string of more than"));
    CHECK(mentions(error_of("{% set ns = namespace(t='x') %}{% for a in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}"),
                   "a string of more than"));
    CHECK(mentions(error_of("{% for a in range(999) %}{{ 'x' * 99999 }}{% endfor %}"), "makes more than"));
    CHECK(mentions(error_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "macros call one another deeper than 40"));
    CHECK(mentions(error_of("{{ " + repeated("(", 9999) + "x" + repeated(")", 9999) + " }}"), "nested deeper than 100"));
    CHECK(mentions(error_of("{{ " + repeated("not ", 100000) + "x }}"), "nested deeper than 100"));
    CHECK(mentions(error_of("{{ x" + repeated(".a", 100000) + " }}"), "a chain of more than 100"));
    CHECK(mentions(error_of(repeated("{% if 1 %}", 100000)), "nested deeper than 100"));
    CHECK(mentions(error_of(repeated("x", 2 << 20)), "a template of 2097152 bytes; at most 1048576"));
    CHECK(mentions(error_of("{{ 9999999999 * 9999999999 }}"), "is too large"));
    CHECK(mentions(error_of("{{ 2 ** 64 }}"), "is too large"));
}

TEST_CASE("templates/see_nothing_but_their_variables") {
    for (const char* hostile : {"{{ ''.__class__ }}", "{{ messages.__init__ }}", "{{ x.append(1) }}", "{{ range.__globals__ }}"}) {
        CAPTURE(hostile);
        const auto parsed = JinjaTemplate::parse(hostile, "chat");
        REQUIRE(parsed.ok());
        const auto rendered = parsed->render({{"messages", "m"}, {"x", OrderedJson::array()}});
        if (rendered.ok()) CHECK(rendered->text.empty());
    }
}

TEST_CASE("templates/survive_every_prefix_of_a_template") {
    const auto text = read_file(DSRT_TEST_DATA "/chat/cases.json");
    const OrderedJson cases = OrderedJson::parse(*text);
    const std::string whole = cases["white_space"]["template"].get<std::string>();
    int parsed = 0;
    for (size_t n = 0; n < whole.size(); ++n) parsed += JinjaTemplate::parse(whole.substr(0, n), "chat").ok();
    CHECK(parsed > 0);
}

TEST_CASE("chat/what_the_assistant_says_is_told_apart") {
    const auto tokenizer = some_tokenizer();
    const auto plain = ChatTemplate::load(*tokenizer, kChat);
    REQUIRE(plain.ok());
    const auto turns = plain->conversation(kTalk);
    REQUIRE(turns.ok());
    CHECK(turns->text == "<user>Hi</><assistant>Hello</><user>?</><assistant>Yes</>");
    CHECK(said(*turns) == std::vector<std::string>{"Hello</>", "Yes</>"});
    const auto marked = ChatTemplate::load(*tokenizer,
                                           "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}.{% "
                                           "endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}");
    REQUIRE(marked.ok());
    CHECK(said(*marked->conversation(kTalk)) == std::vector<std::string>{"Hello.", "Yes."});
    const auto last_only = ChatTemplate::load(*tokenizer, "{{ messages[-1].content }}{% if add_generation_prompt %}>{% endif %}");
    CHECK(mentions(last_only->conversation(kTalk).status().message(), "mark it with {% generation %}"));
}

TEST_CASE("chat/bad_messages_are_named") {
    const auto tokenizer = some_tokenizer();
    CHECK(mentions(ChatTemplate::load(*tokenizer, "").status().message(), "has no chat template"));
    const auto chat = ChatTemplate::load(*tokenizer, kChat);
    CHECK(mentions(chat->text(OrderedJson::object(), false).status().message(), "messages: must be a list of at least one message"));
    CHECK(mentions(chat->text(OrderedJson::parse(R"([{"role": "user"}, {"content": "x"}])"), false).status().message(),
                   "messages[1]: must be an object with \"role\""));
    CHECK(mentions(apply_chat_template(*tokenizer, kTalk, {{"template", kChat}, {"add_generation_promt", true}}).status().message(),
                   "did you mean add_generation_prompt"));
    CHECK(mentions(apply_chat_template(*tokenizer, kTalk, {{"add_generation_prompt", 1}}).status().message(), "must be true or false"));
    CHECK(*apply_chat_template(*tokenizer, kTalk, {{"template", "{{ x }}{{ tools[0] }}"}, {"variables", {{"x", "y"}}}, {"tools", {"t"}}}) ==
          "yt");
}
