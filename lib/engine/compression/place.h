// Groups and neighbours count by outputs and their inputs, whichever way a weight lies.
#pragma once

#include <cstdint>

namespace ds {

// Where element e of [out, in] lies.
inline int64_t place_of(int64_t e, bool out_first, int64_t outs, int64_t ins) { return out_first ? e : e % ins * outs + e / ins; }

}  // namespace ds
