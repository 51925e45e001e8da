// The arithmetic of batch sizes and of the mesh.
//   train_batch_size = train_micro_batch_size_per_gpu x gradient_accumulation_steps x data-parallel ranks  (deepspeed/runtime/config.py)
//   ranks = tensor x pipeline x data x sequence = processes x local_ranks; expert divides data
#include <algorithm>

#include "config/config.h"

namespace ds {
namespace {

// A product that stays at the largest number instead of overflowing.
int64_t product(std::initializer_list<int64_t> factors) {
    int64_t result = 1;
    for (const int64_t factor : factors)
        if (__builtin_mul_overflow(result, factor, &result)) return INT64_MAX;
    return result;
}

}  // namespace

Result<BatchSizes> resolve_batch(std::optional<int64_t> train, std::optional<int64_t> micro, std::optional<int64_t> accumulation,
                                 int64_t ranks) {
    if (!train && !micro)
        return fail(Code::E_CONFIG, "config: train_batch_size: it or train_micro_batch_size_per_gpu must be given{}",
                    accumulation ? "; gradient_accumulation_steps alone says too little" : ", as the config has an optimizer");
    BatchSizes sizes{train.value_or(0), micro.value_or(0), accumulation.value_or(1), ranks};
    if (train && micro && !accumulation) sizes.accumulation = *train / *micro / ranks;
    if (train && !micro) sizes.micro = *train / ranks / sizes.accumulation;
    if (!train) sizes.train = product({sizes.micro, sizes.accumulation, ranks});
    const int64_t rows = product({sizes.micro, sizes.accumulation, ranks});
    if (std::min({sizes.train, sizes.micro, sizes.accumulation}) > 0 && sizes.train == rows && rows != INT64_MAX) return sizes;
    return fail(Code::E_CONFIG,
                "config: train_batch_size: {} must equal train_micro_batch_size_per_gpu {} x gradient_accumulation_steps {} x "
                "data-parallel ranks {}, which is {}",
                sizes.train, sizes.micro, sizes.accumulation, ranks, rows);
}

// Every process has as many ranks as the others.
Result<MeshSizes> resolve_mesh(MeshSizes mesh, std::optional<int64_t> data, std::optional<int64_t> local_ranks, int64_t processes) {
    const int64_t others = product({mesh.tensor, mesh.pipeline, mesh.sequence});
    if (data) mesh.data = *data;
    else if (local_ranks || processes > 1) mesh.data = std::max<int64_t>(1, product({local_ranks.value_or(1), processes}) / others);
    else mesh.data = mesh.expert;
    const int64_t needed = product({others, mesh.data});
    mesh.local_ranks = local_ranks.value_or(std::max<int64_t>(1, needed / processes));
    if (product({mesh.local_ranks, processes}) != needed)
        return fail(Code::E_CONFIG, "parallel: tensor {} x pipeline {} x data {}{} needs {} ranks, {}local_ranks is {}", mesh.tensor,
                    mesh.pipeline, mesh.data, mesh.sequence > 1 ? fmt::format(" x sequence {}", mesh.sequence) : "", needed,
                    processes > 1 ? fmt::format("there are {} processes and ", processes) : "", mesh.local_ranks);
    if (mesh.data % mesh.expert != 0) return fail(Code::E_CONFIG, "parallel: expert {} must divide data {}", mesh.expert, mesh.data);
    return mesh;
}

}  // namespace ds
