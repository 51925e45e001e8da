// ds_options_*: parts that a host supplies to an engine.
#include "api/options.h"

#include "api/cancel.h"
#include "api/host.h"
#include "dsrt/options.h"

using namespace ds;
using namespace ds::api;

Result<HostOptions> ds::api::parts_of(const ds_options* options) {
    if (!options) return HostOptions{};
    DS_USE(const auto held, options);
    return held->parts;
}

ds_status ds_options_create(ds_options** out) {
    return guard([&]() -> Status {
        DS_NOT_NULL(out);
        *out = nullptr;
        *out = new_handle<ds_options>(std::make_shared<OptionsObject>());
        return ok();
    });
}

ds_status ds_options_set_graph(ds_options* o, ds_graph* g) {
    return guard([&]() -> Status {
        DS_USE(const auto options, o);
        DS_USE(const auto graph, g);
        options->parts.graph = graph->graph->snapshot();
        return ok();
    });
}

ds_status ds_options_set_cancel(ds_options* o, ds_cancel* c) {
    return guard([&]() -> Status {
        DS_USE(const auto options, o);
        DS_TRY(options->parts.cancel, flag_of(c));
        return ok();
    });
}

ds_status ds_options_set_mpi(ds_options* o, int32_t fortran_comm) {
    return guard([&]() -> Status {
        DS_USE(const auto options, o);
        options->parts.mpi = fortran_comm;
        return ok();
    });
}

ds_status ds_options_set_optimizer(ds_options* o, const ds_optimizer_callbacks* callbacks) {
    return guard([&]() -> Status {
        DS_USE(const auto options, o);
        DS_TRY(const ds_optimizer_callbacks given, read_struct(callbacks, "ds_optimizer_callbacks"));
        DS_REQUIRE(given.update != nullptr, "ds_optimizer_callbacks: update must not be NULL");
        DS_REQUIRE(given.floats_per_element >= 0 && given.floats_per_element <= 64,
                   "ds_optimizer_callbacks: floats_per_element must be 0 to 64, but is {}", given.floats_per_element);
        const auto held = std::make_shared<HostData>(given.user);
        OptimizerCallbacks made;
        made.floats_per_element = given.floats_per_element;
        made.update = [update = given.update, held](const char* parameter, int64_t step, double lr, float* weight, const float* gradient,
                                                    float* state, size_t n) -> Status {
            const int32_t code = update(held->user, parameter, step, lr, weight, gradient, state, n);
            return code < 0 ? from_callback(code, "optimizer update()") : ok();
        };
        options->parts.optimizer = std::move(made);
        held->release = given.release;  // only now: a call that fails doesn't release
        return ok();
    });
}

ds_status ds_options_set_communicator(ds_options* o, const ds_communicator_callbacks* callbacks) {
    return guard([&]() -> Status {
        DS_USE(const auto options, o);
        DS_TRY(const ds_communicator_callbacks given, read_struct(callbacks, "ds_communicator_callbacks"));
        DS_REQUIRE(given.send && given.receive, "ds_communicator_callbacks: send and receive must not be NULL");
        DS_REQUIRE(given.size >= 1 && given.rank >= 0 && given.rank < given.size,
                   "ds_communicator_callbacks: rank {} must be from 0 to size - 1, and size is {}", given.rank, given.size);
        const auto held = std::make_shared<HostData>(given.user);
        HostedCallbacks made{given.rank, given.size, {}, {}, {}};
        made.send = [send = given.send, held](int to, uint32_t lane, const void* data, size_t bytes) -> Status {
            const int32_t code = send(held->user, to, lane, data, bytes);
            return code < 0 ? from_callback(code, "communicator's send()") : ok();
        };
        made.receive = [receive = given.receive, held](int from, uint32_t lane, void* data, size_t bytes, int wait_ms) -> Status {
            const int32_t code = receive(held->user, from, lane, data, bytes, wait_ms);
            return code < 0 ? from_callback(code, "communicator's receive()") : code == DS_PENDING ? Status(Code::PENDING) : ok();
        };
        if (given.abort) made.abort = [abort = given.abort, held](const Status& why) { abort(held->user, why.message().c_str()); };
        options->parts.communicator = [made] { return hosted_transport(made); };
        held->release = given.release;  // only now: a call that fails doesn't release
        return ok();
    });
}

void ds_options_destroy(ds_options* o) { destroy(o); }
