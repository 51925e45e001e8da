#include "tests/cuda/emulate/order.h"

#include <algorithm>
#include <set>
#include <utility>

#include "tests/cuda/emulate/stream.h"

namespace emu {
namespace {

struct Order {
    std::vector<uint16_t> stream_of{0};  // of each operation; 0 is none
    std::set<int> free;                  // numbers of streams
    int streams = 0;
    std::vector<uint32_t> last;  // operation of each stream
    SharedClock host = std::make_shared<const Clock>();
    int64_t beside = 0;
};
Order& order() {
    static Order& o = *new Order;
    return o;
}

uint32_t at(const Clock& clock, int stream) { return static_cast<size_t>(stream) < clock.size() ? clock[static_cast<size_t>(stream)] : 0; }
void set(Clock& clock, int stream, uint32_t operation) {
    if (clock.size() <= static_cast<size_t>(stream)) clock.resize(static_cast<size_t>(stream) + 1, 0);
    clock[static_cast<size_t>(stream)] = operation;
}

bool knows(const Doing& by, uint32_t operation) {
    return operation == 0 || operation == by.operation || at(*by.known, order().stream_of[operation]) >= operation;
}

thread_local EmuStream* present = nullptr;

}  // namespace

StreamOrder::StreamOrder() {
    Order& o = order();
    if (o.free.empty()) o.free.insert(o.streams++);
    number = *o.free.begin();
    o.free.erase(o.free.begin());
    o.last.resize(static_cast<size_t>(o.streams), 0);
    known = *o.host;
    set(known, number, o.last[static_cast<size_t>(number)]);  // what an earlier stream of this number did had ended
}
StreamOrder::~StreamOrder() { order().free.insert(number); }

void learn(Clock& own, const Clock& more) {
    if (own.size() < more.size()) own.resize(more.size(), 0);
    for (size_t i = 0; i < more.size(); ++i) own[i] = std::max(own[i], more[i]);
}

SharedClock host_clock() { return order().host; }
void host_waited_for(const Clock& known) {
    auto next = std::make_shared<Clock>(*order().host);
    learn(*next, known);
    order().host = std::move(next);
}

EmuStream* begin_operation(EmuStream& stream, const SharedClock& host) {
    Order& o = order();
    EmuStream* before = std::exchange(present, &stream);
    if (stream.order.present != 0) return before;  // it was tried before
    const auto operation = static_cast<uint32_t>(o.stream_of.size());
    o.stream_of.push_back(static_cast<uint16_t>(stream.order.number));
    learn(stream.order.known, *host);
    stream.order.present = operation;
    o.last[static_cast<size_t>(stream.order.number)] = operation;
    set(stream.order.known, stream.order.number, operation);
    return before;
}

void end_operation(EmuStream& stream, EmuStream* before, bool done) {
    if (done) stream.order.present = 0;
    present = before;
}

Doing doing() {
    static const Clock nothing;
    return present ? Doing{present->order.present, &present->order.known} : Doing{0, &nothing};
}

std::string touch(Touched& element, bool writes, const Doing& by) {
    if (element.wrote != by.operation && !knows(by, element.wrote))
        return std::string(writes ? "is written" : "is read") + " on one stream with no event behind the work on another that wrote it";
    if (!writes) {
        if (element.read[0] == by.operation || element.read[1] == by.operation) return {};
        element.read[knows(by, element.read[0]) ? 0 : 1] = by.operation;
        return {};
    }
    for (uint32_t& reader : element.read) {
        if (!knows(by, reader)) return "is written on one stream with no event behind the work on another that reads it";
        reader = 0;
    }
    element.wrote = by.operation;
    return {};
}

void count_beside() {
    const Order& o = order();
    for (const EmuStream* other : streams())
        if (present && other != present && other->device == present->device && other->exchanges != present->exchanges &&
            o.last[static_cast<size_t>(other->order.number)] > at(present->order.known, other->order.number))
            ++order().beside;
}
int64_t operations_beside() { return order().beside; }

}  // namespace emu
