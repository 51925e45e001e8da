// Chat templates: equal to Jinja's own rendering (tests/data/chat/make.py), bounded, and safe with hostile templates.
#include <doctest/doctest.h>

#include "base/file.h"
#include "data/chat.h"
#include "data_support.h"

using namespace ds;
using data_support::Folder;

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

TEST_CASE("templates/unknown_and_surplus_arguments_are_errors") {
    CHECK(mentions(error_of("{{ 'a' | upper(1) }}"), "upper: takes 0 arguments (), not 1"));
    CHECK(mentions(error_of("{{ [1] | tojson(indnt=2) }}"),
                   "tojson: takes no argument indnt; it takes (ensure_ascii, indent, separators, sort_keys)"));
    CHECK(mentions(error_of("{{ 'a' | default('b', default_value='c') }}"), "default: argument default_value is given twice"));
    CHECK(mentions(error_of("{{ 'a' | replace('a') }}"), "replace: needs the argument new"));
    CHECK(mentions(error_of("{{ 4 is divisibleby }}"), "divisibleby: needs the argument num"));
    CHECK(mentions(error_of("{{ 'a'.strip('a', 'b') }}"), "strip: takes 1 arguments (chars), not 2"));
    CHECK(mentions(error_of("{{ {}.items(1) }}"), "items: takes 0 arguments"));
    CHECK(mentions(error_of("{{ range() }}"), "range: needs the argument start"));
    CHECK(mentions(error_of("{% macro f(a) %}{% endmacro %}{{ f(b=1) }}"), "f: takes no argument b; it takes (a)"));
    CHECK(mentions(error_of("{{ ['a'] | map('upper', 1) | list }}"), "upper: takes 0 arguments"));
    CHECK(mentions(error_of("{{ [1] | map(attribute='x', defalt=1) | list }}"), "map: takes no argument defalt"));
    CHECK(mentions(error_of("{{ [1] | select(tst='odd') | list }}"), "argument tst is given without a test"));
}

TEST_CASE("templates/integers_above_int64_are_numbers_not_negative") {
    const auto parsed = JinjaTemplate::parse("{{ x }}", "chat");
    CHECK(parsed->render({{"x", UINT64_MAX}})->text == "1.8446744073709552e+19");
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
    CHECK(mentions(error_of("{{ x" + repeated(".a", 100000) + " }}"), "more than 500 operators, members"));
    CHECK(mentions(error_of("{{ 1" + repeated(" + 1", 100000) + " }}"), "more than 500 operators, members"));
    CHECK(mentions(error_of(repeated("{% if 1 %}", 100000)), "nested deeper than 100"));
    CHECK(mentions(error_of(repeated("x", 2 << 20)), "a template of 2097152 bytes; at most 1048576"));
    CHECK(mentions(error_of("{{ 9999999999 * 9999999999 }}"), "is too large"));
    CHECK(mentions(error_of("{{ 2 ** 64 }}"), "is too large"));
    CHECK(mentions(error_of("{{ (-999999999999999999 * 9 - 223372036854775817) | abs }}"), "is too large"));
    CHECK(error_of("{{ (-999999999999999999 * 9 - 223372036854775817) is divisibleby(-1) }}").empty());
    CHECK(error_of("{{ '' * 999999999999999999 }}").empty());
    CHECK(mentions(error_of("{{ 'a' | map(" + repeated("'map', ", 1000) + "'upper') | list }}"), "nested deeper than 800"));
}

TEST_CASE("templates/are_bounded_in_what_hangs_on_a_value") {
    const std::string ns = "{% set ns = namespace(l=[1]) %}";
    const auto times = [](const std::string& n, const std::string& body) {
        return "{% for i in range(" + n + ") %}" + body + "{% endfor %}";
    };
    for (const char* cycle : {"{% set ns.s = ns %}{{ ns }}", "{% set ns.s = [{'a': ns}] %}{{ ns | tojson }}",
                              "{% set o = namespace(i=ns) %}{% set ns.o = o %}{{ ns }}"})
        CHECK(mentions(error_of(ns + cycle), "can't be set to what holds a namespace"));
    CHECK(mentions(error_of(ns + times("150000", "{% set ns.l = [ns.l] %}")), "a list nested deeper than 100"));
    CHECK(mentions(error_of(ns + times("150000", "{% set ns.l = ns.l.index %}{% set ns.l = [ns.l] %}")), "nested deeper than 100"));
    for (const char* use : {"{{ ns.l }}", "{{ ns.l | tojson }}", "{{ ns.l == ns.m }}", "{{ ns.l | sort }}"})
        CHECK(mentions(error_of(ns + times("40", "{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}") + use),
                       "a list of more than"));
    CHECK(mentions(error_of("{% set big = namespace() %}{% set l = [big, big, big] %}{% set big.t = 'x' * 9999999 %}{{ l }}"),
                   "makes more than"));
    CHECK(error_of("{% set ns = namespace(a=namespace(b=1)) %}{{ ns.a.b }}{{ ns == ns.a }}").empty());
}

TEST_CASE("templates/are_charged_for_the_bytes_they_touch") {
    const std::string big = "{% set x = 'a' * 16000000 %}{% set y = 'a' * 8000000 ~ 'b' %}{% set l = range(1000000) | list %}";
    for (const char* work :
         {"{{ x | upper | length }}", "{{ x.find(y) }}", "{{ y in x }}", "{{ (x ~ '') == y }}", "{{ 5 in l }}", "{{ l | unique | length }}",
          "{% set t %}{{ x }}{% endset %}", "{% set z = 'b' * 16000000 %}", "{{ l[1:] | length }}"}) {
        CAPTURE(work);
        CHECK(mentions(error_of(big + "{% for i in range(9999) %}" + work + "{% endfor %}"), "takes more than 1000000 steps"));
    }
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

TEST_CASE("chat/named_templates_are_found_and_tools_take_tool_use") {
    const Folder folder;
    std::filesystem::copy(DSRT_TEST_DATA "/tokenizers/whitespace/tokenizer.json", folder.path / "tokenizer.json");
    folder.write("tokenizer_config.json",
                 R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})");
    const auto text = [&](const OrderedJson& options) {
        const auto tokenizer = Tokenizer::load(folder.path);
        REQUIRE(tokenizer.ok());
        const auto made = apply_chat_template(**tokenizer, kTalk, options);
        return made.ok() ? *made : made.status().message();
    };
    const OrderedJson none = OrderedJson::object(), tools{{"tools", {"t"}}};
    CHECK(text(none) == "D");
    CHECK(text(tools) == "T");
    CHECK(text({{"tools", nullptr}}) == "D");
    CHECK(text({{"tools", {"t"}}, {"template", "default"}}) == "D");
    folder.write("chat_template.jinja", "main");
    CHECK(text(tools) == "main");  // files take the place of what tokenizer_config.json holds
    std::filesystem::create_directories(folder.path / "additional_chat_templates");
    folder.write("additional_chat_templates/rag.jinja", "rag");
    CHECK(text({{"template", "rag"}}) == "rag");
    CHECK(text(none) == "main");
    folder.write("additional_chat_templates/tool_use.jinja", "tools");
    CHECK(text(tools) == "tools");
    CHECK(mentions(text({{"template", "rga"}}), "did you mean \"rag\"?"));
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
