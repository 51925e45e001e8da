#include "passes/sequence_cost.h"

#include <algorithm>

#include "passes/cost.h"

namespace ds::passes {

Result<SequenceWay> cheapest_sequence_attention(const Attention& attrs, const Type& q, const Type& k, int64_t sequences,
                                                const SequenceLayout& layout, std::string* report) {
    using Asked = SequenceLayout::Attention;
    const int64_t n = layout.ranks, heads = attrs.heads, kv_heads = attrs.kv_heads ? attrs.kv_heads : heads, tensor = layout.tensor_ranks;
    // What the tensor rank with the fewest has.
    const int64_t own_keys = std::max<int64_t>(kv_heads / tensor, 1),
                  own = kv_heads >= tensor ? own_keys * (heads / kv_heads) : std::max<int64_t>(heads / tensor, 1);
    if (layout.attention == Asked::ulysses && own < n)
        return fail(Code::E_CONFIG,
                    "parallel.sequence_attention: ulysses deals out heads, but {} heads{} are fewer than the {} sequence ranks; accepted: "
                    "ring, auto",
                    own, tensor > 1 ? fmt::format(" a tensor rank ({} of {} tensor ranks)", heads, tensor) : "", n);
    const auto rows = static_cast<double>(q.shape[0]), ranks = static_cast<double>(n),
               columns = static_cast<double>(q.shape[1]) / static_cast<double>(tensor);
    const double key_columns = static_cast<double>(k.shape[1]) * static_cast<double>(own_keys * tensor) / static_cast<double>(kv_heads) /
                               static_cast<double>(tensor);
    const double piece = rows / ranks, size = static_cast<double>(size_of(q.dtype)), others = (ranks - 1) / ranks;
    const double average = rows / static_cast<double>(std::max<int64_t>(sequences, 1));
    // Forward 2 products, backward 5; of a causal mask half is seen.
    const double flops = 14 * rows * average * columns * (attrs.causal ? 0.5 : 1.0);
    SequenceWay ring{true, attrs.causal && sequences < 2 * n && (attrs.window == 0 || attrs.window > static_cast<int64_t>(piece))};
    // Queries, keys, values and results go to heads and back, and so do their gradients; keys of fewer heads than ranks are gathered whole.
    const bool few_keys = own_keys < n;
    const int64_t units = few_keys ? own : own_keys;
    const double keys_sent = few_keys ? 2 * key_columns * (ranks - 1) : 2 * key_columns * others;
    const double dealt = static_cast<double>((units + n - 1) / n) / static_cast<double>(std::max<int64_t>(units, 1));
    const double by_heads = seconds(flops * dealt, 2 * piece * size * (2 * columns * others + keys_sent), 16);
    // Keys and values go round twice, their gradients once in f32; parts are merged in memory, about as fast as they are exchanged.
    const double by_ring = seconds(flops / ranks, piece * (ranks - 1) * (4 * size + 8) * key_columns + piece * (ranks - 1) * 12 * columns,
                                   12 * (ranks - 1) + 4);
    const bool choose_heads =
        own >= n && (layout.attention == Asked::ulysses || (layout.attention == Asked::cheapest && by_heads <= by_ring));
    if (report)
        *report += fmt::format(
            "attention of {} tokens, {} heads, {} key heads over {} sequence ranks: ulysses {}, ring {:.1f} us{}; {} {}\n", q.shape[0],
            heads, kv_heads, n, own >= n ? fmt::format("{:.1f} us", by_heads * 1e6) : fmt::format("impossible ({} heads a rank)", own),
            by_ring * 1e6, ring.stripes ? " (tokens in stripes)" : "",
            layout.attention == Asked::cheapest ? "chosen:" : "asked for:", choose_heads ? "ulysses" : "ring");
    return choose_heads ? SequenceWay{false, false} : ring;
}

}  // namespace ds::passes
