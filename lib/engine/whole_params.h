// Whole tensors of parameters, wherever their parts lie: what hosts read and set, and what checkpoints hold, so that neither knows the
// layout.
#pragma once

#include <functional>

#include "engine/rank.h"

namespace ds {

struct Field {
    enum Kind { weight, grad, state } kind = weight;
    size_t index = 0;  // of the state
};

// What an update changes of a parameter: its weight, then its state.
std::vector<Field> fields_of(const Param& definition, bool with_state);

class WholeParams {
public:
    explicit WholeParams(const Ranks& ranks) : ranks_(ranks) {}

    // The elements of a field of a parameter's definition.
    static int64_t count(const Param& definition, Field field);
    // grads_are_summed: over data ranks; else they are summed here. With several processes, all of them must call `read` for the same field
    // at the same time.
    Status read(const Param& definition, Field field, float* out, bool grads_are_summed = true, bool grads_are_dealt_out = false) const;
    Status write(const Param& definition, Field field, const float* from);
    // The memory of a field that one rank holds whole, so that it need not be copied; else null.
    const float* in_place(const Param& definition, Field field) const;

private:
    Status take(Rank& rank, Param& p, const Param& definition, Field field, bool dealt_out, bool sums, float* out) const;
    Status combine(const float* held, int64_t summands, int64_t n, bool sums, float* out) const;
    // Calls f for each rank that holds some of the parameter, with that rank's own definition of it.
    Status holders(const Param& definition, const std::function<Status(Rank&, Param&)>& f) const;
    bool in_parts(const Param& definition) const;  // the weight
    Status write_low(Rank& rank, const Param& p, const Param& definition, const float* from) const;
    const Ranks& ranks_;
};

}  // namespace ds
