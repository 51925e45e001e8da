// Parts that a host supplies to an engine, and the switch that ends its calls.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_CPP_OPTIONS_HPP
#define DSRT_CPP_OPTIONS_HPP

#include <dsrt/cpp/graph.hpp>

namespace dsrt {

class Cancel {
public:
    Cancel() : handle_(make()) {}
    void set(bool on = true) { detail::check(ds_cancel_set(get(), on)); }
    ds_cancel* get() const { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_cancel* make() {
        return detail::CancelHandle::made([](auto out) { return ds_cancel_create(out); });
    }
    detail::CancelHandle handle_;
};

// A host's own optimizer: see ds_optimizer_callbacks.
using OptimizerFunction =
    std::function<void(const char* parameter, int64_t step, double lr, float* weight, const float* gradient, float* state, size_t n)>;

class Options {
public:
    Options() : handle_(make()) {}
    Options& graph(const Graph& g) { return done(ds_options_set_graph(get(), g.get())); }
    Options& cancel(const Cancel& c) { return done(ds_options_set_cancel(get(), c.get())); }
    Options& mpi(int32_t fortran_comm) { return done(ds_options_set_mpi(get(), fortran_comm)); }
    // A communicator of the host's own (dsrt/options.h); what `callbacks` refers to must live as long as the engines made with it.
    Options& communicator(const ds_communicator_callbacks& callbacks) { return done(ds_options_set_communicator(get(), &callbacks)); }
    Options& optimizer(int32_t floats_per_element, OptimizerFunction update) {
        auto user = std::make_unique<OptimizerFunction>(std::move(update));
        ds_optimizer_callbacks callbacks{};
        callbacks.struct_size = sizeof(callbacks);
        callbacks.user = user.get();
        callbacks.floats_per_element = floats_per_element;
        callbacks.update = [](void* u, const char* parameter, int64_t step, double lr, float* weight, const float* gradient, float* state,
                              size_t n) -> int32_t {
            return detail::call([&] {
                (*static_cast<OptimizerFunction*>(u))(parameter, step, lr, weight, gradient, state, n);
                return DS_OK;
            });
        };
        callbacks.release = detail::release<OptimizerFunction>;
        done(ds_options_set_optimizer(get(), &callbacks));
        user.release();
        return *this;
    }
    ds_options* get() const { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_options* make() {
        return detail::OptionsHandle::made([](auto out) { return ds_options_create(out); });
    }
    Options& done(ds_status status) {
        detail::check(status);
        return *this;
    }
    detail::OptionsHandle handle_;
};

}  // namespace dsrt

#endif  // DSRT_CPP_OPTIONS_HPP
