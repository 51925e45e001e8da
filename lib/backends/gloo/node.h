// One process in the rendezvous: the loop thread's connections (rendezvous.cpp), and what is said on them (introductions.cpp).
#pragma once

#include <uv.h>

#include <algorithm>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "backends/gloo/frames.h"
#include "backends/gloo/rendezvous.h"

namespace ds::rendezvous {

using Clock = std::chrono::steady_clock;

inline constexpr size_t kLargestQueue = size_t{64} << 20;

std::string random_bytes();  // of a nonce

// One connection. Owned by the loop thread; freed when libuv has closed it.
struct Peer {
    uv_tcp_t tcp{};
    int64_t rank = -1;  // proved
    int64_t claims = -1;
    std::string in, client_nonce, server_nonce;
    Clock::time_point since = Clock::now();
    int quiet = 0;  // ticks since something was heard
    bool closing = false, said_bye = false;
    bool knows_secret = false;  // of the first process, as a client sees it
};

class Node : public Rendezvous {
public:
    Node(const Options& options, Failed failed)
        : options_(options), failed_(std::move(failed)), here_(static_cast<size_t>(options.size), false), left_(here_) {
        here_[0] = true;
    }

    ~Node() override {
        if (!thread_.joinable()) return;
        post([this] { leave(); });
        thread_.join();
    }

    Status start();
    Status wait_for_all();

    void set(const std::string& key, const std::string& value) override {
        post([this, key, value] {
            if (options_.rank == 0) store(key, value);
            else if (peer_) write(*peer_, encode(Type::set, {key, value}));
        });
    }

    Result<std::string> get(const std::string& key, Clock::time_point until) override {
        post([this, key] {
            if (options_.rank != 0 && peer_) write(*peer_, encode(Type::get, {key}));
        });
        std::unique_lock lock(mutex_);
        const bool came = changed_.wait_until(lock, until, [&] { return values_.count(key) || !failure_.ok(); });
        if (!failure_.ok()) return failure_;
        if (!came) return ds::fail(Code::E_TIMEOUT, "the rendezvous: nobody has set {} in time", key);
        return values_[key];
    }

    void fail(const Status& why) override {
        post([this, why] { spread(why, -1); });
    }

    bool has_left(int rank) const override {
        std::lock_guard lock(mutex_);
        return left_[static_cast<size_t>(rank)] || left_[0];
    }

    std::string own_address() const override { return own_address_; }
    int port() const override { return port_; }

private:
    void post(std::function<void()> job) {
        std::lock_guard lock(jobs_mutex_);
        jobs_.push_back(std::move(job));
        if (running_) uv_async_send(&wake_);
    }
    void run_jobs() {
        std::list<std::function<void()>> jobs;
        {
            std::lock_guard lock(jobs_mutex_);
            jobs.swap(jobs_);
        }
        for (auto& job : jobs) job();
    }

    void loop();
    Status listen();
    void connect_next();
    void on_connected(Peer& peer, int status);
    void on_bytes(Peer& peer, ssize_t n, const char* bytes);
    void on_frame(Peer& peer, const Frame& frame);
    void server_frame(Peer& peer, const Frame& frame);
    void client_frame(Peer& peer, const Frame& frame);
    void hello(Peer& peer, const Frame& frame);
    void lost(Peer& peer, const std::string& why);
    void tick();
    std::chrono::milliseconds between_ticks() const { return std::max(options_.heartbeat / 2, std::chrono::milliseconds(10)); }
    void leave();
    void close(Peer& peer);
    static void closed(uv_handle_t* tcp) {
        static_cast<Node*>(tcp->data)->peers_.remove_if([&](const auto& p) { return reinterpret_cast<uv_handle_t*>(&p->tcp) == tcp; });
    }
    void start_reading(Peer& peer);
    void store(const std::string& key, const std::string& value);
    void spread(const Status& why, int64_t except);
    void tell_all(const std::string& frame, int64_t except);
    void refuse(Peer& peer, const std::string& why, bool another_port_may_do);
    void give_up(Status why) {
        std::lock_guard lock(mutex_);
        if (join_failure_.ok()) join_failure_ = std::move(why);
        changed_.notify_all();
    }
    void note_failure(const Status& why) {
        {
            std::lock_guard lock(mutex_);
            if (!failure_.ok()) return;
            failure_ = why;
            changed_.notify_all();
        }
        if (failed_) failed_(why);
    }
    void write(Peer& peer, std::string bytes) {
        if (peer.closing) return;
        if (uv_stream_get_write_queue_size(reinterpret_cast<uv_stream_t*>(&peer.tcp)) > kLargestQueue)
            return lost(peer, "it does not read what it is sent");
        struct Write {
            uv_write_t request;
            std::string bytes;
        };
        auto* w = new Write{{}, std::move(bytes)};
        w->request.data = w;
        uv_buf_t buffer = uv_buf_init(w->bytes.data(), static_cast<unsigned>(w->bytes.size()));
        if (uv_write(&w->request, reinterpret_cast<uv_stream_t*>(&peer.tcp), &buffer, 1,
                     [](uv_write_t* r, int) { delete static_cast<Write*>(r->data); }) != 0)
            delete w;
    }

    const Options options_;
    const Failed failed_;
    sockaddr_storage address_{};
    std::string own_address_;
    int port_ = 0;

    uv_loop_t loop_{};
    uv_async_t wake_{};
    uv_timer_t timer_{}, retry_{};
    uv_tcp_t listener_{};
    bool listening_ = false, leaving_ = false, running_ = false;
    std::list<std::unique_ptr<Peer>> peers_;
    Peer* peer_ = nullptr;  // of a client: the first process
    int attempt_ = 0;
    std::vector<bool> here_;
    std::multimap<std::string, int64_t> wanted_;  // key -> rank
    std::string last_trouble_ = "nothing answers there";
    std::thread thread_;

    std::mutex jobs_mutex_;
    std::list<std::function<void()>> jobs_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<bool> left_;  // who has said good-bye
    std::map<std::string, std::string> values_;
    bool complete_ = false;
    Status failure_, join_failure_;
};

}  // namespace ds::rendezvous
