#include "engine/files.h"

#include "engine/engine.h"

namespace ds {

NamedTensor tensor_of(const WholeParams& whole, const ReadWhole& read, const Param& p, Field field, std::string name, Shape shape) {
    NamedTensor tensor{std::move(name), DType::f32, std::move(shape), whole.in_place(p, field), {}};
    if (!tensor.data)
        tensor.source = [read, &p, field](const ChunkWriter& write) -> Status {
            std::vector<float> all(static_cast<size_t>(WholeParams::count(p, field)));
            DS_CHECK(read(p, field, all.data()));
            return write(std::as_bytes(std::span(all)));
        };
    return tensor;
}

// The writer asks for one field after the other; everybody gives what it holds of it.
Status Engine::read_whole(std::string_view call, const Param& p, Field field, float* out) const {
    if (!job_.alone())
        DS_CHECK(job_.exchange(call, fmt::format("{} {} {}", static_cast<int>(field.kind), field.index, p.name), true).status());
    return whole_->read(p, field, out);
}

Status Engine::read_for_writer(std::string_view call) {
    std::vector<float> out;
    for (;;) {
        DS_TRY(const std::vector<std::string> all, job_.exchange(call, "", true));
        const std::string& asked = all[0];
        if (asked.starts_with("end ")) {
            const size_t space = asked.find(' ', 4);
            const auto code = static_cast<Code>(std::stoi(asked.substr(4, space - 4)));
            return static_cast<int>(code) < 0 ? fail(code, "process 0: {}", asked.substr(space + 1)) : ok();
        }
        const size_t one = asked.find(' '), two = asked.find(' ', one + 1);
        const Param* p = two == asked.npos ? nullptr : params_->find(asked.substr(two + 1));
        if (!p) return fail(Code::E_INTERNAL, "{}: process 0 asked for {}", call, asked);
        const Field field{static_cast<Field::Kind>(std::stoi(asked.substr(0, one))),
                          static_cast<size_t>(std::stoul(asked.substr(one + 1, two - one - 1)))};
        out.resize(static_cast<size_t>(WholeParams::count(*p, field)));
        DS_CHECK(whole_->read(*p, field, out.data()));
    }
}

Status Engine::end_of_reads(std::string_view call, Status status) {
    if (job_.alone()) return status;
    const Status told = job_.exchange(call, fmt::format("end {} {}", static_cast<int>(status.code()), status.message()), true).status();
    return status.ok() ? told : status;
}

}  // namespace ds
