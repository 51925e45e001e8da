// Which work is ordered behind which. An operation of a stream knows the operations, of all streams, that ended before it begins: those of
// its own stream, those that an event says which its stream waited for, and those that the host had waited for when it was queued. What
// touches memory that other work wrote, or writes what other work read, and does not know of that work, is a fault: on a GPU either could
// come first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct EmuStream;

namespace emu {

using Clock = std::vector<uint32_t>;  // by stream: the last of its operations that has ended
using SharedClock = std::shared_ptr<const Clock>;

struct StreamOrder {
    StreamOrder();
    ~StreamOrder();
    StreamOrder(const StreamOrder&) = delete;

    int number = 0;        // among the streams that live
    uint32_t present = 0;  // its operation that runs, or 0
    Clock known;
};

struct Doing {  // what touches memory
    uint32_t operation = 0;
    const Clock* known = nullptr;
};
Doing doing();                                                           // the operation that runs now
EmuStream* begin_operation(EmuStream& stream, const SharedClock& host);  // whose operation ran before, if it is within that
void end_operation(EmuStream& stream, EmuStream* before, bool done);
void learn(Clock& own, const Clock& more);
SharedClock host_clock();
void host_waited_for(const Clock& known);

struct Touched {                       // an element of memory: by which operations last
    uint32_t wrote = 0, read[2] = {};  // reads of two streams that don't know of each other
};
// "" or what is wrong.
std::string touch(Touched& element, bool writes, const Doing& by);

void count_beside();          // called by work of any kind
int64_t operations_beside();  // that did not know of an exchange, or exchanges that did not know of them

}  // namespace emu
