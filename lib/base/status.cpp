#include "base/status.h"

namespace ds {

const char* code_name(Code code) {
    switch (code) {
#define DS_CODE(name, value, text) \
    case Code::name:               \
        return "DS_" #name;
#include "base/errors.def"
#undef DS_CODE
    }
    return "DS_?";
}

Status Status::within(std::string_view place) && {
    if (!ok()) message_.insert(0, std::string(place) + ": ");
    return std::move(*this);
}

}  // namespace ds
