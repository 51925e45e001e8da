#include "optim/optimizer.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "base/nearest.h"
#include "base/round.h"
#include "kernels/cpu/level.h"
#include "optim/factories.h"

namespace ds {
namespace {

struct Row {
    const char* name;
    OptimizerFactory make;
};
constexpr Row kRows[] = {
#define DS_OPTIMIZER(name, factory, text) {name, factory},
#include "optim/optim.def"
#undef DS_OPTIMIZER
};

bool same_letters(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Known to DeepSpeed, not built here.
constexpr const char* kUnbuilt[] = {"OneBitAdam", "ZeroOneAdam", "OneBitLamb"};

}  // namespace

std::vector<std::string> optimizer_names() {
    std::vector<std::string> names;
    for (const Row& row : kRows) names.emplace_back(row.name);
    return names;
}

namespace {

Result<OptimizerFactory> factory_of(std::string_view type) {
    for (const Row& row : kRows)
        if (same_letters(row.name, type)) return row.make;
    for (const char* name : kUnbuilt)
        if (same_letters(name, type))
            return fail(Code::E_UNSUPPORTED, "config: optimizer.type: {} is not built; accepted: {}", name,
                        fmt::join(optimizer_names(), ", "));
    return fail(Code::E_CONFIG, "config: optimizer.type: unknown optimizer \"{}\"; did you mean {}? Accepted: {}", type,
                nearest(type, optimizer_names()), fmt::join(optimizer_names(), ", "));
}

}  // namespace

Result<std::unique_ptr<Optimizer>> make_optimizer(std::string_view type, const Json& params) {
    cpu::level();  // before the first SIMD loop, so that all of them obey DSRT_CPU
    DS_TRY(const OptimizerFactory make, factory_of(type));
    OptimizerParams reader(params);
    return make(reader);
}

Result<Json> effective_params(std::string_view type, const Json& params) {
    DS_TRY(const OptimizerFactory make, factory_of(type));
    OptimizerParams reader(params);
    DS_TRY(const auto made, make(reader));
    return reader.effective();
}

void update_alone(const Optimizer& optimizer, const ParamTraits& traits, const ParamView& view, const Hyper& hyper) {
    const size_t bytes = static_cast<size_t>(round_up(optimizer.scratch_bytes(traits, 1), 64));
    const std::unique_ptr<std::byte, decltype(&std::free)> scratch(bytes ? static_cast<std::byte*>(std::aligned_alloc(64, bytes)) : nullptr,
                                                                   std::free);
    for (int phase = 0; phase < optimizer.phases(traits); ++phase) optimizer.update(phase, traits, view, hyper, scratch.get(), Team{});
}

}  // namespace ds
