// A transport behind a plug-in's table.
#include "comm/transport.h"

#include <mutex>

namespace ds {
namespace {

constexpr size_t kErrorBytes = 1024;

Status status_of(int32_t code, const char* text) { return Status(static_cast<Code>(code), text); }

class PluggedPending : public Transport::Pending {
public:
    PluggedPending(const TransportTable& table, void* pending) : table_(table), pending_(pending) {}
    ~PluggedPending() override { table_.drop(pending_); }
    Status wait(Transport::Clock::time_point until) override {
        char error[kErrorBytes] = "";
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Transport::Clock::now()).count();
        const int32_t code = table_.wait(pending_, std::max<int64_t>(left, 1), error, sizeof error);
        return code < 0 ? status_of(code, error) : ok();
    }

private:
    const TransportTable& table_;
    void* const pending_;
};

// Who is told of failures. It outlives the transport, whose threads may call until `leave` has returned. Who takes `told` back waits for a
// call under way.
struct Listener {
    std::mutex mutex;
    std::function<void(const Status&)> told;
    Status early;  // came before anybody listened

    void hear(const Status& status) {
        std::lock_guard lock(mutex);
        if (told) told(status);
        else if (early.ok()) early = status;
    }
};

class Plugged : public Transport {
public:
    Plugged(const TransportTable& table, void* transport, std::unique_ptr<Listener> listener, int rank, int size)
        : Transport(rank, size), table_(table), transport_(transport), listener_(std::move(listener)) {}
    ~Plugged() override { table_.leave(transport_); }

    Start send(int to, uint32_t lane, const void* data, size_t bytes) override {
        void* pending = nullptr;
        char error[kErrorBytes] = "";
        if (const int32_t code = table_.send(transport_, to, lane, data, bytes, &pending, error, sizeof error); code < 0)
            return status_of(code, error);
        return std::unique_ptr<Pending>(std::make_unique<PluggedPending>(table_, pending));
    }
    Start receive(int from, uint32_t lane, void* data, size_t bytes) override {
        void* pending = nullptr;
        char error[kErrorBytes] = "";
        if (const int32_t code = table_.receive(transport_, from, lane, data, bytes, &pending, error, sizeof error); code < 0)
            return status_of(code, error);
        return std::unique_ptr<Pending>(std::make_unique<PluggedPending>(table_, pending));
    }
    void abort(const Status& why) override { table_.abort(transport_, static_cast<int32_t>(why.code()), why.message().c_str()); }
    bool watches() const override { return table_.watches; }
    void on_failure(std::function<void(const Status&)> told) override {
        std::unique_lock lock(listener_->mutex);
        listener_->told = told;
        const Status early = listener_->early;
        lock.unlock();
        if (told && !early.ok()) told(early);
    }

private:
    const TransportTable& table_;
    void* const transport_;
    const std::unique_ptr<Listener> listener_;
};

}  // namespace

Result<std::unique_ptr<Transport>> join_by_plugin(std::string_view backend, const std::string& options_json) {
    DS_TRY(const TransportTable* table, load_plugin<TransportTable>(backend));
    auto listener = std::make_unique<Listener>();
    void* transport = nullptr;
    int32_t rank = 0, size = 0;
    char error[kErrorBytes] = "";
    const auto failed = [](void* user, int32_t code, const char* text) { static_cast<Listener*>(user)->hear(status_of(code, text)); };
    if (const int32_t code = table->join(options_json.c_str(), failed, listener.get(), &transport, &rank, &size, error, sizeof error);
        code < 0)
        return status_of(code, error).within(backend);
    return std::unique_ptr<Transport>(std::make_unique<Plugged>(*table, transport, std::move(listener), rank, size));
}

}  // namespace ds
