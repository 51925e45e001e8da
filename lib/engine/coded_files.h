// Weights in few bits as Hugging Face folders have them, in the form of compressed-tensors (which vLLM and transformers read): of a module
//   weight_packed      i32[out, in bits / 32]  unsigned codes of 4 bits (or 8), the first in a word's lowest bits; or weight i8[out, in],
//   codes less 128 weight_scale       [out, groups]           a group is in / groups neighbouring inputs; value = (code - zero point) *
//   scale weight_zero_point  i32[out / 8, groups]    unsigned, of outputs 8 a word; or i8[out, groups], less 128; absent: half of the codes
//   weight_shape       i64[2]                  of weight_packed
//   input_scale, input_zero_point [1]          of what goes in, where its range is fixed
// and config.json's quantization_config says which modules those are.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "ckpt/weight_folder.h"
#include "kernels/coded.h"
#include "models/model.h"

namespace ds {

// A module's weight in integers, in memory as GroupParts has it whatever a file or a kernel makes of it.
struct CodedModule {
    WeightCode code;  // group is always set
    int64_t outs = 0, ins = 0;
    std::vector<uint8_t> bytes;
    enum class Inputs { whole, by_token, fixed } inputs = Inputs::whole;  // 8-bit codes of what goes in, where they aren't whole
    InputCode input;                                                      // of fixed ones

    GroupParts parts() const { return {outs, ins, code}; }
};

bool is_coded_folder(const Json& model_config);
bool is_coded_tensor(std::string_view name);  // of those above, and the codes' own names
Status check_coded_folder(const Json& model_config,
                          const std::string& folder);  // E_UNSUPPORTED where weights are in few bits of another form
// Nothing where the folder has the module's weight in floats.
Result<std::optional<CodedModule>> read_coded_module(const WeightFolder& folder, const Json& model_config, const std::string& module,
                                                     const Shape& shape, bool out_first, const TensorNames& names);
// What params keep of it, and the way back; codes of the latter are in groups or by output.
std::vector<uint8_t> kept_codes(const CodedModule& module, const WeightCode& as);
CodedModule module_of_codes(const uint8_t* kept, const WeightCode& as, int64_t outs, int64_t ins);

// Whether the form can say it; if not, what it lacks.
std::optional<std::string> lacks(const CodedModule& module);
void add_coded_tensors(const std::string& module, const CodedModule& coded, std::vector<NamedTensor>& tensors);
Json coded_folder_config(const std::map<std::string, CodedModule>& modules);

}  // namespace ds
