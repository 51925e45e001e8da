// A group as messages name it: what it is called, and the number in the job of each of its ranks. What goes wrong between ranks of one
// process, on the host or on devices, is said here.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "comm/message.h"

namespace ds {

struct Roster {
    Roster(std::string group, std::vector<int> numbers) : name(std::move(group)), ranks(std::move(numbers)) {}

    const std::string name;
    const std::vector<int> ranks;

    int size() const { return static_cast<int>(ranks.size()); }
    int number(int member) const { return ranks[static_cast<size_t>(member)]; }
    // "ranks of the NAME group": those for whom is_late(member) holds, else `nobody`.
    template <class IsLate>
    std::string late(IsLate is_late, const char* nobody) const {
        std::string names;
        for (int member = 0; member < size(); ++member)
            if (is_late(member)) names += fmt::format("{}{}", names.empty() ? "rank " : ", ", number(member));
        return fmt::format("{} of the {} group", names.empty() ? nobody : names, name);
    }
    Status silent(int from, std::chrono::milliseconds deadline) const {
        return fail(Code::E_TIMEOUT, "rank {} of the {} group sent nothing within {} s", number(from), name,
                    std::chrono::duration<double>(deadline).count());
    }
    Status wrong_size(int from, int64_t sent, int to, int64_t expected) const {
        return fail(Code::E_COMM, "rank {} of the {} group sent {} bytes where rank {} expected {}: the ranks do not run the same plan",
                    number(from), name, sent, number(to), expected);
    }
    Status other_call(int other, CommOp their_op, DType their_type, int mine, CommOp op, DType dtype) const {
        return fail(Code::E_COMM, "rank {} of the {} group is in {} of {} where rank {} is in {} of {}: the ranks do not run the same plan",
                    number(other), name, name_of(their_op), name_of(their_type), number(mine), name_of(op), name_of(dtype));
    }
};

}  // namespace ds
