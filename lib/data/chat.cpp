#include "data/chat.h"

#include <algorithm>

#include "base/file.h"
#include "base/nearest.h"
#include "data/options.h"
#include "data/tokenizer/definition.h"

namespace ds {
namespace {

namespace fs = std::filesystem;
constexpr size_t kMaxFile = size_t{1} << 20;

struct Named {
    std::string name, text, place;
};

// All templates of a folder. Where files hold some, those of tokenizer_config.json don't count.
Result<std::vector<Named>> templates_of(const fs::path& folder, const Json& config) {
    std::vector<Named> out;
    std::error_code error;
    if (const fs::path file = folder / "chat_template.jinja"; fs::is_regular_file(file, error)) {
        DS_TRY(std::string text, read_file(file, kMaxFile));
        out.push_back({"default", std::move(text), file.string()});
    }
    for (const auto& entry : fs::directory_iterator(folder / "additional_chat_templates", error)) {
        if (entry.path().extension() != ".jinja") continue;
        DS_TRY(std::string text, read_file(entry.path(), kMaxFile));
        out.push_back({entry.path().stem().string(), std::move(text), entry.path().string()});
    }
    if (!out.empty()) return out;
    const std::string place = (folder / "tokenizer_config.json").string() + ": chat_template";
    const Json given = config.value("chat_template", Json());
    if (given.is_string()) out.push_back({"default", given.get<std::string>(), place});
    else if (given.is_array()) {
        for (const Json& entry : given) {
            if (!entry.is_object() || !entry.value("name", Json()).is_string() || !entry.value("template", Json()).is_string())
                return fail(Code::E_CORRUPT, "{}: must be a text, or a list of {{\"name\", \"template\"}}, found {}", place,
                            excerpt(entry.dump()));
            out.push_back({entry["name"], entry["template"], place});
        }
    } else if (!given.is_null()) return fail(Code::E_CORRUPT, "{}: must be a text, or a list of {{\"name\", \"template\"}}", place);
    return out;
}

OrderedJson special_tokens_of(const Json& config) {
    OrderedJson out = OrderedJson::object();
    for (const auto& [key, value] : config.items()) {
        if (!key.ends_with("_token")) continue;
        if (value.is_string()) out[key] = value.get<std::string>();
        else if (value.is_object() && value.value("content", Json()).is_string()) out[key] = value["content"].get<std::string>();
    }
    return out;
}

Status check_messages(const OrderedJson& messages) {
    if (!messages.is_array() || messages.empty())
        return fail(Code::E_INVALID_ARGUMENT, "messages: must be a list of at least one message, found {}", excerpt(messages.dump()));
    for (size_t i = 0; i < messages.size(); ++i)
        if (!messages[i].is_object() || !messages[i].value("role", OrderedJson()).is_string())
            return fail(Code::E_INVALID_ARGUMENT, "messages[{}]: must be an object with \"role\" (a text) and \"content\", found {}", i,
                        excerpt(messages[i].dump()));
    return ok();
}

}  // namespace

Result<ChatTemplate> ChatTemplate::load(const Tokenizer& tokenizer, const std::string& wanted, bool tools) {
    Json config = Json::object();
    std::vector<Named> known;
    if (!tokenizer.folder().empty()) {
        DS_TRY(config, tokenizer::folder_config(tokenizer.folder()));
        DS_TRY(known, templates_of(tokenizer.folder(), config));
    }
    ChatTemplate out;
    out.special_tokens_ = special_tokens_of(config);
    if (wanted.find("{{") != wanted.npos || wanted.find("{%") != wanted.npos) {
        DS_TRY(out.template_, JinjaTemplate::parse(wanted, "chat template"));
        return out;
    }
    if (known.empty())
        return fail(Code::E_NOT_FOUND,
                    "{}: has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); give one as Jinja text",
                    tokenizer.folder().empty() ? "the tokenizer" : tokenizer.folder().string());
    std::vector<std::string> names;
    for (const Named& t : known) names.push_back(t.name);
    const bool for_tools = tools && std::find(names.begin(), names.end(), "tool_use") != names.end();
    const std::string name = !wanted.empty() ? wanted : for_tools ? "tool_use" : "default";
    for (const Named& t : known) {
        if (t.name != name) continue;
        DS_TRY(out.template_, JinjaTemplate::parse(t.text, t.place));
        return out;
    }
    return fail(Code::E_NOT_FOUND, "chat template \"{}\" is unknown; did you mean \"{}\"? there are {}", name, nearest(name, names),
                fmt::join(names, ", "));
}

Result<Rendered> ChatTemplate::render(const OrderedJson& messages, bool add_generation_prompt, const OrderedJson& variables) const {
    OrderedJson all = special_tokens_;
    all["tools"] = nullptr;
    all["documents"] = nullptr;
    for (const auto& [key, value] : variables.items()) all[key] = value;
    all["messages"] = messages;
    all["add_generation_prompt"] = add_generation_prompt;
    return template_.render(all);
}

Result<std::string> ChatTemplate::text(const OrderedJson& messages, bool add_generation_prompt, const OrderedJson& variables) const {
    DS_CHECK(check_messages(messages));
    DS_TRY(Rendered rendered, render(messages, add_generation_prompt, variables));
    return std::move(rendered.text);
}

Result<ChatTemplate::Conversation> ChatTemplate::conversation(const OrderedJson& messages) const {
    DS_CHECK(check_messages(messages));
    DS_TRY(Rendered whole, render(messages, false, OrderedJson::object()));
    Conversation out{std::move(whole.text), std::move(whole.generated)};
    if (!out.said.empty()) return out;
    OrderedJson before = OrderedJson::array();
    for (size_t i = 0; i < messages.size(); ++i) {
        if (messages[i]["role"] == "assistant" && i > 0) {
            DS_TRY(const Rendered prompt, render(before, true, OrderedJson::object()));
            before.push_back(messages[i]);
            DS_TRY(const Rendered turn, render(before, false, OrderedJson::object()));
            if (!turn.text.starts_with(prompt.text) || !out.text.starts_with(turn.text))
                return fail(Code::E_UNSUPPORTED,
                            "messages[{}]: the template's text of the turns so far is not the beginning of the conversation's, so what the "
                            "assistant says can't be told apart; "
                            "mark it with {{% generation %}} in the template",
                            i);
            out.said.emplace_back(prompt.text.size(), turn.text.size());
        } else before.push_back(messages[i]);
    }
    return out;
}

Result<std::string> apply_chat_template(const Tokenizer& tokenizer, const OrderedJson& messages, const OrderedJson& options) {
    DS_CHECK(check_keys(Json::parse(options.dump()), "options", {"add_generation_prompt", "template", "tools", "documents", "variables"}));
    const auto wrong = [&](const char* key, const char* accepted) {
        return fail(Code::E_INVALID_ARGUMENT, "options: {}: must be {}, found {}", key, accepted, excerpt(options[key].dump()));
    };
    bool prompt = false;
    std::string wanted;
    OrderedJson variables = OrderedJson::object();
    for (const auto& [key, value] : options.items()) {
        if (key == "add_generation_prompt") {
            if (!value.is_boolean()) return wrong("add_generation_prompt", "true or false");
            prompt = value.get<bool>();
        } else if (key == "template") {
            if (!value.is_string()) return wrong("template", "the name or the text of a template");
            wanted = value.get<std::string>();
        } else if (key == "variables") {
            if (!value.is_object()) return wrong("variables", "an object");
            for (const auto& [name, v] : value.items()) variables[name] = v;
        } else variables[key] = value;
    }
    const bool tools = variables.contains("tools") && !variables["tools"].is_null();
    DS_TRY(const ChatTemplate chat, ChatTemplate::load(tokenizer, wanted, tools));
    return chat.text(messages, prompt, variables);
}

}  // namespace ds
