// What decoder-only families make of their last states: the next words, or, as transformers has it, an answer about each row from the
// state of its last token that is not padding (a reward model's score is one number of that kind), or an answer about each token. Without a
// pad_token_id, where transformers takes no more than one row, the mask tells what is padding.
#pragma once

#include "models/blocks.h"

namespace ds::models {

struct CausalModel : Model {
    // words: logits over the vocabulary.
    void head(Blocks& m, TokenStream& s, ValueId x, const std::function<ValueId(ValueId)>& words) const;

    std::string token_head = "score";  // what the layer over tokens is called
    double token_dropout = 0.1;
};

// The fields of heads, once the family's own are read, and what follows from the task. root: of the body's names, before a head;
// words: the table in it that the head `words_head` may be tied to.
Status finish_causal(CausalModel& m, Fields& f, Task task, const std::string& root, const std::string& words, const std::string& words_head,
                     bool tied);

}  // namespace ds::models
