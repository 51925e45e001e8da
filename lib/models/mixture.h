// A mixture of experts in place of an MLP (Shazeer et al. 2017, arXiv 1701.06538): a router gives each token to a few of many gated MLPs.
#pragma once

#include "models/blocks.h"

namespace ds::models {

struct Mixture {
    int64_t experts = 8, chosen = 2, inner = 0;
    int64_t shared_inner = 0;  // of an expert that every token has, by a share that it learns; 0: there is none
    bool shares_sum_to_one = true;
    double balance = 0;  // weight of the load balancing term
    std::string gate = "gate_proj", up = "up_proj", down = "down_proj";

    // What the router did with the tokens so far, of each expert, over layers.
    struct Load {
        ValueId counts = kNone, probabilities = kNone;
        int64_t layers = 0;
    };

    ValueId build(Blocks& m, TokenStream& s, ValueId h, const Activation& activation, const Scope& w, Load& load) const;
    // The load balancing term of the Switch Transformer (Fedus et al. 2021, arXiv 2101.03961, equations 4 to 6), over all layers at once
    // and over the tokens of the whole batch.
    ValueId imbalance(Builder& b, TokenStream& s, const Load& load) const;

private:
    ValueId grouped(Blocks& m, ValueId x, ValueId ends, const Scope& w, const std::string& name, int64_t out) const;
    ValueId shared(Blocks& m, ValueId h, const Activation& activation, const Scope& w) const;
};

// experts_key: what config.json calls their number.
Status check_mixture(const Mixture& mixture, const char* experts_key);

}  // namespace ds::models
