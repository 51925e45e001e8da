// Sources of batches: files, or a host's own iterator.
// SPDX-License-Identifier: Apache-2.0
#ifndef DSRT_CPP_DATA_HPP
#define DSRT_CPP_DATA_HPP

#include <dsrt/cpp/tensor.hpp>

namespace dsrt {

class Engine;

// A host's own iterator. next() fills the batch (empty, and not to be kept), or answers false at the end of an epoch; save and restore may
// be left out.
struct DataFunctions {
    std::function<bool(Batch& batch)> next;
    std::function<std::string()> save;
    std::function<void(const std::string& cursor)> restore;
};

class Data {
public:
    explicit Data(const std::string& options_json, const Engine* engine = nullptr) : handle_(open(detail::c_text(options_json), engine)) {}
    explicit Data(const Engine& engine) : handle_(open(nullptr, &engine)) {}  // what the engine's config says under "data"
    explicit Data(DataFunctions functions, const Engine* engine = nullptr) : handle_(wrap(std::move(functions), engine)) {}
    // False at the end of an epoch; the next call starts the next one.
    bool next(Batch& batch) { return detail::check(ds_data_next(get(), batch.get())) != Outcome::end; }
    ds_data* get() const { return handle_.get(); }
    void close() noexcept { handle_.close(); }

private:
    static ds_data* open(const char* options_json, const Engine* engine);
    static ds_data* wrap(DataFunctions functions, const Engine* engine);
    detail::DataHandle handle_;
};

}  // namespace dsrt

#endif  // DSRT_CPP_DATA_HPP
