// Conversations as text, by the chat template that lies in a tokenizer's folder, as transformers' apply_chat_template.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "data/jinja/jinja.h"
#include "data/tokenizer.h"

namespace ds {

class ChatTemplate {
public:
    // The folder's templates are chat_template.jinja and additional_chat_templates/NAME.jinja, else tokenizer_config.json's chat_template.
    // wanted: "" the folder's default, with tools its tool_use where there is one; a name among the folder's; or the text of a template.
    static Result<ChatTemplate> load(const Tokenizer& tokenizer, const std::string& wanted, bool tools = false);

    // messages: a list of {"role", "content", ...}. variables: what the template sees besides (tools, documents ...).
    Result<std::string> text(const OrderedJson& messages, bool add_generation_prompt,
                             const OrderedJson& variables = OrderedJson::object()) const;

    // The text of a whole conversation, and the bytes of it that the assistant says, ends of turns included: what a {% generation %} block
    // makes, or without one, what each turn of the assistant adds to the text with a generation prompt before it.
    struct Conversation {
        std::string text;
        std::vector<std::pair<size_t, size_t>> said;
    };
    Result<Conversation> conversation(const OrderedJson& messages) const;

private:
    Result<Rendered> render(const OrderedJson& messages, bool add_generation_prompt, const OrderedJson& variables) const;
    JinjaTemplate template_;
    OrderedJson special_tokens_;  // bos_token, eos_token ... by name
};

// What ds_tokenizer_apply_chat_template does.
Result<std::string> apply_chat_template(const Tokenizer& tokenizer, const OrderedJson& messages, const OrderedJson& options);

}  // namespace ds
