// Folders of a compressed model whose weights stay in few bits.
#include <algorithm>

#include "engine/compression/compression.h"
#include "engine/compression/place.h"

namespace ds {
namespace {

Status lack(const std::string& key, const std::string& module, const std::string& what) {
    return fail(Code::E_UNSUPPORTED, "ds_export: option quantized: compression_training.{}: {}: {}", key, module, what);
}

// One module, whose weight has `bits` by now.
struct Coding {
    const std::string& module;
    const ModuleCompression& how;
    const ExportSource& source;
    const int64_t updates, bits;

    Result<HostTensor> read(const std::string& name) const {
        const Param& p = *source.params.find(name);
        HostTensor t = HostTensor::zeros(DType::f32, p.shape);
        DS_CHECK(source.read(p, t.as<float>().data()));
        return t;
    }
    bool rounds_inputs() const { return how.activation && updates >= how.activation->offset; }

    // Where DeepSpeed's groups are no piece of an output and no number of whole ones, files can't have them.
    Result<CodedModule> form() const {
        const Shape& shape = source.params.find(module + ".weight")->shape;
        CodedModule m;
        m.outs = shape[how.out_first ? 0 : 1], m.ins = shape[how.out_first ? 1 : 0];
        if (bits < 3 || bits > 8)
            return lack("weight_quantization", module, fmt::format("{} bits have no form in files; 3 to 8 have", bits));
        for (const auto& [rule, name] : {std::pair{&how.rows, "row_pruning"}, {&how.heads, "head_pruning"}})
            if (*rule && updates >= (*rule)->offset) return lack(name, module, "is not built together with weights in few bits");
        const int64_t size = m.outs * m.ins / how.weight->groups;
        if (size < m.ins ? m.ins % size : size % m.ins)
            return lack("weight_quantization.shared_parameters.quantize_groups", module,
                        fmt::format("groups of {} elements are no part of its {} inputs, and no number of whole outputs", size, m.ins));
        m.code = {.bits = bits <= 4 && !rounds_inputs() ? 4 : 8, .group = std::min(size, m.ins), .asymmetric = how.weight->asymmetric};
        return m;
    }

    Status code_weight(CodedModule& m) const {
        DS_TRY(HostTensor whole, read(module + ".weight"));
        const std::span<float> x = whole.as<float>();
        const int64_t size = m.outs * m.ins / how.weight->groups;
        std::vector<Levels> of_group;
        for (int64_t g = 0; g < how.weight->groups; ++g) {
            float least = INFINITY, most = -INFINITY;
            for (int64_t e = g * size; e < (g + 1) * size; ++e) {
                const float value = x[static_cast<size_t>(place_of(e, how.out_first, m.outs, m.ins))];
                least = std::min(least, value), most = std::max(most, value);
            }
            of_group.push_back(levels(bits, m.code.asymmetric, least, most));
        }
        if (how.sparse && updates >= how.sparse->offset) {
            if (how.sparse->learned)
                return lack("sparse_pruning.shared_parameters.method", module,
                            "topk is not built together with weights in few bits; l1 is");
            DS_TRY(const HostTensor mask, read(module + kSparseMask));
            for (size_t i = 0; i < x.size(); ++i) x[i] *= mask.as<float>()[i];
        }
        WeightCode code = m.code;
        code.out_first = how.out_first;
        const GroupParts parts = m.parts();
        m.bytes.resize(static_cast<size_t>(parts.bytes));
        code_groups(x.data(), parts, code, 0, m.outs, m.bytes.data(), [&](int64_t o, int64_t g, const std::vector<float>&) {
            return of_group[static_cast<size_t>((o * m.ins + g * m.code.group) / size)];
        });
        return ok();
    }

    Status code_inputs(CodedModule& m) const {
        if (!rounds_inputs()) return ok();
        const ActivationBits& in = *how.activation;
        if (in.bits != 8) return lack("activation_quantization", module, fmt::format("{} bits have no integer products; 8 have", in.bits));
        if (m.code.asymmetric)
            return lack("weight_quantization.shared_parameters.quantization_type", module,
                        "asymmetric weights have no integer products; symmetric ones have");
        if (m.code.group != m.ins)
            return lack("weight_quantization.shared_parameters.quantize_groups", module,
                        "integer products need one scale for all inputs of an output");
        if (!in.fixed && in.asymmetric)
            return lack("activation_quantization.shared_parameters.quantization_type", module,
                        "asymmetric ranges of each token have no integer products; symmetric ones have, and static ones");
        m.inputs = in.fixed ? CodedModule::Inputs::fixed : CodedModule::Inputs::by_token;
        if (!in.fixed) return ok();
        DS_TRY(const HostTensor range, read(module + kInputRange));
        const Levels to = levels(8, in.asymmetric, range.as<float>()[0], range.as<float>()[1]);
        if (to.scale == 0)
            return fail(Code::E_STATE, "ds_export: option quantized: {}: no training pass has shown the range of its inputs", module);
        m.input = {to.scale, in.asymmetric ? -128 - static_cast<int32_t>(std::nearbyint(to.zero / to.scale)) : 0};
        if (m.input.zero < -128 || m.input.zero > 127)
            return lack("activation_quantization.shared_parameters.quantization_type", module,
                        "an asymmetric range without zero has no form in files");
        return ok();
    }
};

}  // namespace

Result<std::map<std::string, CodedModule>> coded_compressed_weights(const CompressionSpec& spec, int64_t updates,
                                                                    const ExportSource& source) {
    std::map<std::string, CodedModule> modules;
    for (const auto& [module, how] : spec) {
        const int64_t bits = how.weight ? how.weight->at(updates) : 0;
        if (!bits || how.table) continue;  // tables have no form in few bits
        const Coding coding{module, how, source, updates, bits};
        DS_TRY(CodedModule m, coding.form());
        DS_CHECK(coding.code_weight(m));
        DS_CHECK(coding.code_inputs(m));
        modules.emplace(module, std::move(m));
    }
    return modules;
}

}  // namespace ds
