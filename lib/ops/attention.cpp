// Scaled dot-product attention over packed sequences:  y = dropout(softmax(mask(scale * q k^T + bias))) v.
// Vaswani et al. 2017 (arXiv 1706.03762); computed without materialised scores (Dao et al. 2022, arXiv 2205.14135), lse kept for the
// gradient. Rows of q, k, v are tokens; `segments` cuts them into sequences (kernels/README.md says exactly which key a query sees). With
// `key_segments` the keys are other tokens than the queries: those of another stream, or, with `first_tokens`, a part of the queries' own.
// Results of a part are f32, and the lse of a query that sees none of it is -inf, so that parts can be merged. `bias` is T5's, a number a
// head for each bucket of distances (Raffel et al. 2019, arXiv 1910.10683), looked up in the kernel; `layout` says which blocks of places
// see each other (Child et al. 2019, arXiv 1904.10509).
#include "ops/rules.h"

namespace ds::ops {
namespace {

Status one_a_token(const Type& t, std::string_view name, int64_t rows, DType dtype) {
    DS_REQUIRE(elements(t.shape) == rows && t.dtype == dtype, "{} must have one {} a token ({}), but is {}", name, name_of(dtype), rows,
               to_string(t));
    return ok();
}

Result<Types> infer_attention(const Attrs& attrs, In in) {
    const auto& a = attrs.as<Attention>();
    const Shape &q = in[0].shape, &k = in[1].shape;
    const int64_t kv_heads = a.kv_heads ? a.kv_heads : a.heads;
    for (int i = 0; i < 3; ++i) DS_CHECK(require_float(in[static_cast<size_t>(i)], i == 0 ? "q" : i == 1 ? "k" : "v"));
    DS_REQUIRE(in[1].shape == in[2].shape, "k {} and v {} must have one shape", dims_to_string(k), dims_to_string(in[2].shape));
    DS_REQUIRE(q.size() == k.size() && (in[3].present ? q.size() == 2 : q.size() == 3 || q.size() == 4),
               "q and k must have rank {}, but are {} and {}",
               in[3].present ? "2 with segments" : "3 [rows, length, heads * size] or 4 [rows, length, heads, size]", dims_to_string(q),
               dims_to_string(k));
    const int64_t heads = q.size() == 4 ? q[2] : a.heads, groups = q.size() == 4 ? k[2] : kv_heads;
    DS_REQUIRE(heads > 0 && groups > 0 && heads % groups == 0, "{} query heads are not a multiple of {} key-value heads", heads, groups);
    const int64_t columns = q.size() == 4 ? heads * q[3] : q.back(), kv_columns = q.size() == 4 ? groups * k[3] : k.back();
    DS_REQUIRE(columns % heads == 0 && kv_columns % groups == 0 && columns / heads == kv_columns / groups,
               "q {} and k {} do not divide into {} and {} heads of one size", dims_to_string(q), dims_to_string(k), heads, groups);
    const int64_t rows = q.size() == 2 ? q[0] : q[0] * q[1], keys = k.size() == 2 ? k[0] : k[0] * k[1];
    const bool alike = rows == keys && (q.size() == 2 || (q[0] == k[0] && q[1] == k[1]));
    DS_REQUIRE(alike || in[6].present, "q {} and k {} differ in tokens, and there are no key_segments{}", dims_to_string(q),
               dims_to_string(k), q.size() == 2 ? "" : "; matmul, softmax and matmul attend to another stream of tokens");
    if (in[3].present) DS_CHECK(require_ids(in[3], "segments"));
    DS_REQUIRE(!in[3].present || (in[3].shape.size() == 1 && in[3].shape[0] >= 2),
               "segments must be the ends of at least one sequence, 0 first, but are {}", dims_to_string(in[3].shape));
    DS_REQUIRE(a.dropout >= 0 && a.dropout < 1, "dropout {} is outside [0, 1)", a.dropout);
    if (in[4].present) DS_CHECK(one_a_token(in[4], "tokens", rows, DType::i32));
    if (in[5].present) DS_CHECK(one_a_token(in[5], "key_mask", keys, DType::u8));
    if (in[7].present) DS_CHECK(one_a_token(in[7], "key_tokens", keys, DType::i32));
    DS_REQUIRE(!in[7].present || in[6].present, "key_tokens needs key_segments");
    if (in[6].present)
        DS_REQUIRE(in[3].present && in[6] == in[3], "key_segments must be as many as segments {}, but are {}", dims_to_string(in[3].shape),
                   dims_to_string(in[6].shape));
    if (in[6].present)
        DS_REQUIRE((!a.causal && a.window == 0) || (in[4].present && in[7].present),
                   "causal or windowed attention with key_segments needs tokens and key_tokens");
    if (in[8].present)
        DS_REQUIRE(in[6].present && in[8].dtype == DType::i32 && elements(in[8].shape) + 1 == elements(in[3].shape),
                   "first_tokens must be one i32 a sequence, beside key_segments");
    if (in[9].present) {
        const Shape& table = in[9].shape;
        const int64_t buckets = table.size() == 2 ? table[0] / (a.both_ways ? 2 : 1) : 0;
        DS_REQUIRE(in[9].dtype == DType::f32 && table.size() == 2 && table[1] == heads, "bias must be f32 [buckets, {} heads], but is {}",
                   heads, to_string(in[9]));
        DS_REQUIRE(buckets >= 2 && table[0] % (a.both_ways ? 2 : 1) == 0 && a.max_distance > buckets / 2,
                   "{} buckets{} do not reach max_distance {}", table[0], a.both_ways ? " for both ways" : "", a.max_distance);
    }
    if (in[10].present) {
        const Shape& blocks = in[10].shape;
        DS_REQUIRE(in[10].dtype == DType::u8 && blocks.size() == 3 && (blocks[0] == heads || blocks[0] == 1),
                   "layout must be u8 [{} heads or 1, blocks, blocks], but is {}", heads, to_string(in[10]));
        DS_REQUIRE(a.block > 0 && !in[6].present, "a layout needs a positive block, not {}, and one stream of tokens", a.block);
    }
    DS_REQUIRE(!in[8].present || !in[9].present, "a bias by distance has no parts");
    return Types{{in[8].present ? DType::f32 : in[0].dtype, q}, {DType::f32, {rows, heads}}};
}

}  // namespace

const OpDef& attention() {
    static const OpDef op = {
        .name = "attention",
        .meaning = "softmax(scale * q k^T) v within sequences",
        .inputs = {"q", "k", "v", "segments?", "tokens?", "key_mask?", "key_segments?", "key_tokens?", "first_tokens?", "bias?", "layout?"},
        .outputs = {"y", "lse"},
        .attrs = attrs_type<Attention>(),
        .infer = infer_attention,
        .gradient =
            [](GradContext& c) {
                std::vector<ValueId> in{c.dy[0], c.in(0), c.in(1), c.in(2), c.out(0), c.out(1)};
                for (size_t i = 3; i < 11; ++i) in.push_back(c.in(i));
                const auto made = c.b.call_all("attention_grad", std::move(in), c.node.attrs);
                Grads g(11, kNone);
                std::copy_n(made.begin(), 3, g.begin());
                if (c.in(9) != kNone) g[9] = made[3];
                return g;
            },
        .shard =
            [](const Graph& g, const Node& n) {
                // Heads are independent; with rank 2 or 3 they lie in the last dimension.
                const int d = g.type(n.in[0]).shape.size() == 4 ? 2 : static_cast<int>(g.type(n.in[0]).shape.size()) - 1;
                const bool a_layout_each = n.in.size() > 10 && n.in[10] != kNone && g.type(n.in[10]).shape[0] > 1;
                ShardWay heads{{d, d, d, kWhole, kWhole, kWhole, kWhole, kWhole, kWhole, 1, a_layout_each ? 0 : kWhole}, {d, 1}};
                heads.in.resize(std::max<size_t>(n.in.size(), 9));
                return std::vector<ShardWay>{heads};
            },
        .cost =
            [](const Attrs&, In in, In) {
                // Without run-time data every token is taken to see the whole of an average sequence.
                const double tokens = static_cast<double>(elements(all_but_last(in[0].shape)));
                const double sequences = in[3].present ? static_cast<double>(std::max<int64_t>(elements(in[3].shape) - 1, 1))
                                                       : static_cast<double>(in[0].shape[0]);
                return Cost{.flops = 4 * static_cast<double>(elements(in[0].shape)) * tokens / std::max(sequences, 1.0)};
            },
        .strided = true,
        .low_inputs = 3,
    };
    return op;
}

const OpDef& attention_grad() {
    static const OpDef op = {
        .name = "attention_grad",
        .meaning = "gradients of attention",
        .inputs = {"dy", "q", "k", "v", "y", "lse", "segments?", "tokens?", "key_mask?", "key_segments?", "key_tokens?", "first_tokens?",
                   "bias?", "layout?"},
        .outputs = {"dq", "dk", "dv", "dbias"},
        .attrs = attrs_type<Attention>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const Type forward[] = {in[1], in[2], in[3], in[6], in[7], in[8], in[9], in[10], in[11], in[12], in[13]};
            DS_TRY(const Types out, infer_attention(attrs, forward));
            DS_CHECK(require_shape(in[0], "dy", out[0].shape));
            DS_CHECK(require_shape(in[4], "y", out[0].shape));
            DS_CHECK(require_shape(in[5], "lse", out[1].shape));
            Types gradients{in[1], in[2], in[3]};
            if (in[11].present)
                for (Type& g : gradients) g.dtype = DType::f32;
            if (in[12].present) gradients.push_back(in[12]);
            return gradients;
        },
        .cost =
            [](const Attrs&, In in, In) {
                return Cost{.flops =
                                10 * static_cast<double>(elements(in[1].shape)) * static_cast<double>(last(all_but_last(in[1].shape)))};
            },
        .strided = true,
    };
    return op;
}

}  // namespace ds::ops
