// Attention of a generation step: appends keys and values of new tokens to what earlier runs left, then attends over all of them.
// passes/cache.h makes it of attention; it is not differentiable.
//
// The cache is a pool of token places, [kv_heads, pool, size], into which `table` points: token j of sequence r lies at place table[r, j].
// So sequences may share their beginnings (beams), and nothing moves when they part. `lengths` counts each sequence's tokens, the new ones
// too; without it nothing was there before.
//
// An encoder-decoder's looks at the encoder's tokens: the run that makes them brings k and v with `key_segments` of their own, later ones
// neither.
#include "ops/rules.h"

namespace ds::ops {

const OpDef& attention_cached() {
    static const OpDef op = {
        .name = "attention_cached",
        .meaning = "attention over keys and values of earlier runs and of this one, which it appends to them",
        .inputs = {"q", "k?", "v?", "keys", "values", "table", "lengths?", "segments", "key_segments?", "bias?"},
        .outputs = {"y"},
        .attrs = attrs_type<Attention>(),
        .infer = [](const Attrs& attrs, In in) -> Result<Types> {
            const auto& a = attrs.as<Attention>();
            const Type &q = in[0], &k = in[1], &keys = in[3], &table = in[5];
            const int64_t kv_heads = a.kv_heads ? a.kv_heads : a.heads;
            DS_CHECK(require_float(q, "q"));
            DS_CHECK(require_float(keys, "keys"));
            DS_REQUIRE(q.shape.size() == 2 && a.heads > 0 && q.shape[1] % a.heads == 0 && kv_heads > 0 && a.heads % kv_heads == 0,
                       "q must be [tokens, heads * size] with {} heads, a multiple of {} key-value heads, but is {}", a.heads, kv_heads,
                       dims_to_string(q.shape));
            const int64_t size = q.shape[1] / a.heads;
            DS_REQUIRE(keys.shape.size() == 3 && keys.shape[0] == kv_heads && keys.shape[2] == size,
                       "keys must be [{}, pool, {}], but are {}", kv_heads, size, dims_to_string(keys.shape));
            DS_REQUIRE(in[4] == keys, "values must be {} as keys, but are {}", to_string(keys), to_string(in[4]));
            DS_REQUIRE(in[1].present == in[2].present, "k and v must come together");
            if (k.present) {
                DS_CHECK(require_float(k, "k"));
                DS_REQUIRE(k.shape.size() == 2 && k.shape[1] == kv_heads * size && k == in[2],
                           "k and v must be [tokens, {}], but are {} and {}", kv_heads * size, to_string(k), to_string(in[2]));
                DS_REQUIRE(k.shape[0] == q.shape[0] || in[8].present, "q {} and k {} differ in tokens, and there are no key_segments",
                           dims_to_string(q.shape), dims_to_string(k.shape));
            }
            DS_REQUIRE(k.present || !a.causal, "without k and v attention is not causal");
            DS_REQUIRE(in[6].present || k.present, "without lengths, k and v are all there is");
            DS_CHECK(require_ids(table, "table"));
            if (in[6].present) DS_CHECK(require_ids(in[6], "lengths"));
            DS_CHECK(require_ids(in[7], "segments"));
            DS_REQUIRE(table.shape.size() == 2, "table must be [sequences, places], but is {}", dims_to_string(table.shape));
            DS_CHECK(require_shape(in[6], "lengths", {table.shape[0]}));
            DS_CHECK(require_shape(in[7], "segments", {table.shape[0] + 1}));
            if (in[8].present) {
                DS_REQUIRE(k.present && !in[6].present && !a.causal,
                           "key_segments need k and v, which are all there is, and attention that is not causal");
                DS_REQUIRE(in[8] == in[7], "key_segments must be as many as segments {}, but are {}", dims_to_string(in[7].shape),
                           to_string(in[8]));
            }
            if (in[9].present) {
                DS_REQUIRE(a.causal && !a.both_ways && in[6].present, "a bias needs causal attention and lengths");
                DS_REQUIRE(in[9].dtype == DType::f32 && in[9].shape.size() == 2 && in[9].shape[1] == a.heads && in[9].shape[0] >= 2,
                           "bias must be f32 [buckets, {} heads], but is {}", a.heads, to_string(in[9]));
                DS_REQUIRE(a.max_distance > in[9].shape[0] / 2, "{} buckets do not reach max_distance {}", in[9].shape[0], a.max_distance);
            }
            return Types{q};
        },
        .strided = true,
        .low_inputs = 3,
    };
    return op;
}

}  // namespace ds::ops
