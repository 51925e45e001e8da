#include "backends/gloo/rendezvous.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <nettle/hmac.h>
#include <signal.h>
#include <sys/random.h>
#include <uv.h>

#include <algorithm>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "backends/gloo/frames.h"

namespace ds::rendezvous {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kHandshake{10};
constexpr std::chrono::milliseconds kRetry{100};
constexpr size_t kLargestQueue = size_t{64} << 20;

double seconds(std::chrono::milliseconds t) { return std::chrono::duration<double>(t).count(); }

std::string random_bytes() {
    std::string bytes(32, '\0');
    size_t at = 0;
    while (at < bytes.size()) {
        const ssize_t n = getrandom(bytes.data() + at, bytes.size() - at, 0);
        if (n > 0) at += static_cast<size_t>(n);
    }
    return bytes;
}

// What a side proves: that it knows the secret, in this job, at this epoch, as this rank, now.
std::string proof_of(const Options& options, const char* side, int64_t rank, const std::string& client_nonce, const std::string& server_nonce) {
    const std::string text = fmt::format("{}\n{}\n{}\n{}\n{}\n", side, options.job, options.epoch, rank, options.size) + client_nonce + server_nonce;
    hmac_sha256_ctx context;
    hmac_sha256_set_key(&context, options.secret.size(), reinterpret_cast<const uint8_t*>(options.secret.data()));
    hmac_sha256_update(&context, text.size(), reinterpret_cast<const uint8_t*>(text.data()));
    std::string digest(SHA256_DIGEST_SIZE, '\0');
    hmac_sha256_digest(&context, digest.size(), reinterpret_cast<uint8_t*>(digest.data()));
    return digest;
}

bool equal_in_constant_time(const std::string& a, const std::string& b) {
    if (a.size() != b.size()) return false;
    unsigned difference = 0;
    for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
    return difference == 0;
}

bool is_loopback(const sockaddr_storage& a) {
    if (a.ss_family == AF_INET) return (ntohl(reinterpret_cast<const sockaddr_in&>(a).sin_addr.s_addr) >> 24) == 127;
    return a.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(a).sin6_addr);
}

std::string text_of(const sockaddr_storage& a) {
    char text[INET6_ADDRSTRLEN] = "";
    if (a.ss_family == AF_INET) inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(a).sin_addr, text, sizeof text);
    else inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(a).sin6_addr, text, sizeof text);
    return text;
}

void set_port(sockaddr_storage& a, int port) {
    (a.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(a).sin_port : reinterpret_cast<sockaddr_in6&>(a).sin6_port) = htons(static_cast<uint16_t>(port));
}

Result<sockaddr_storage> resolve(const std::string& name) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (const int error = getaddrinfo(name.c_str(), nullptr, &hints, &found); error != 0) return ds::fail(Code::E_COMM, "{}: is no address that is known here: {}", name, gai_strerror(error));
    const addrinfo* best = found;
    for (const addrinfo* a = found; a; a = a->ai_next)
        if (a->ai_family == AF_INET) {
            best = a;
            break;
        }
    sockaddr_storage address{};
    std::memcpy(&address, best->ai_addr, best->ai_addrlen);
    freeaddrinfo(found);
    return address;
}

// This host's first address that other hosts may know.
std::string outside_address() {
    uv_interface_address_t* list = nullptr;
    int count = 0;
    std::string found;
    if (uv_interface_addresses(&list, &count) != 0) return found;
    for (int i = 0; i < count && found.empty(); ++i) {
        char text[INET6_ADDRSTRLEN] = "";
        if (list[i].is_internal || list[i].address.address4.sin_family != AF_INET) continue;
        uv_ip4_name(&list[i].address.address4, text, sizeof text);
        found = text;
    }
    uv_free_interface_addresses(list, count);
    return found;
}

// One connection. Owned by the loop thread; freed when libuv has closed it.
struct Peer {
    uv_tcp_t tcp{};
    int64_t rank = -1;       // proved
    int64_t claims = -1;
    std::string in, client_nonce, server_nonce;
    Clock::time_point since = Clock::now(), heard = Clock::now();
    bool closing = false, said_bye = false;
    bool knows_secret = false;  // of the first process, as a client sees it
};

class Node : public Rendezvous {
public:
    Node(const Options& options, Failed failed) : options_(options), failed_(std::move(failed)), here_(static_cast<size_t>(options.size), false), left_(here_) { here_[0] = true; }

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
    void leave();
    void close(Peer& peer);
    static void closed(uv_handle_t* tcp) {
        static_cast<Node*>(tcp->data)->peers_.remove_if([&](const auto& p) { return reinterpret_cast<uv_handle_t*>(&p->tcp) == tcp; });
    }
    void start_reading(Peer& peer);
    void store(const std::string& key, const std::string& value);
    void spread(const Status& why, int64_t except);
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
        if (uv_stream_get_write_queue_size(reinterpret_cast<uv_stream_t*>(&peer.tcp)) > kLargestQueue) return lost(peer, "it does not read what it is sent");
        struct Write {
            uv_write_t request;
            std::string bytes;
        };
        auto* w = new Write{{}, std::move(bytes)};
        w->request.data = w;
        uv_buf_t buffer = uv_buf_init(w->bytes.data(), static_cast<unsigned>(w->bytes.size()));
        if (uv_write(&w->request, reinterpret_cast<uv_stream_t*>(&peer.tcp), &buffer, 1, [](uv_write_t* r, int) { delete static_cast<Write*>(r->data); }) != 0) delete w;
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
    std::vector<bool> here_, left_;
    std::multimap<std::string, int64_t> wanted_;  // key -> rank
    std::string last_trouble_ = "nothing answers there";
    std::thread thread_;

    std::mutex jobs_mutex_;
    std::list<std::function<void()>> jobs_;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::string, std::string> values_;
    bool complete_ = false;
    Status failure_, join_failure_;
};

Status Node::listen() {
    std::vector<sockaddr_storage> places{address_};
    if (!options_.one_host) {  // the name may mean loopback here, or an address that only a router knows
        sockaddr_storage any{};
        any.ss_family = address_.ss_family;
        if (is_loopback(address_)) places.clear();
        places.push_back(any);
    }
    int error = 0;
    for (const sockaddr_storage& place : places)
        for (int i = 0; i < kPorts; ++i) {
            sockaddr_storage at = place;
            set_port(at, options_.port + i);
            uv_tcp_init(&loop_, &listener_);
            listener_.data = this;
            error = uv_tcp_bind(&listener_, reinterpret_cast<const sockaddr*>(&at), 0);
            if (error == 0)
                error = uv_listen(reinterpret_cast<uv_stream_t*>(&listener_), 128, [](uv_stream_t* server, int status) {
                    auto* node = static_cast<Node*>(server->data);
                    if (status != 0) return;
                    auto peer = std::make_unique<Peer>();
                    uv_tcp_init(&node->loop_, &peer->tcp);
                    peer->tcp.data = node;
                    Peer& raw = *peer;
                    const bool room = node->peers_.size() < static_cast<size_t>(4 * node->options_.size + 16);
                    node->peers_.push_back(std::move(peer));
                    if (uv_accept(server, reinterpret_cast<uv_stream_t*>(&raw.tcp)) != 0 || !room) return node->close(raw);
                    node->start_reading(raw);
                });
            if (error == 0) {
                port_ = options_.port + i;
                listening_ = true;
                own_address_ = is_loopback(address_) && !options_.one_host ? outside_address() : text_of(address_);
                return ok();
            }
            uv_close(reinterpret_cast<uv_handle_t*>(&listener_), nullptr);
            uv_run(&loop_, UV_RUN_NOWAIT);
            if (error == UV_EADDRNOTAVAIL) break;
        }
    return ds::fail(Code::E_COMM, "rank 0 can't listen at {} on a port of {} to {}: {}", options_.address, options_.port, options_.port + kPorts - 1, uv_strerror(error));
}

Status Node::start() {
    DS_TRY(address_, resolve(options_.one_host ? "127.0.0.1" : options_.address));
    if (!options_.one_host && options_.secret.empty())
        return ds::fail(Code::E_CONFIG, "the processes of this job are on several hosts ({}), which needs a secret: put random text into a file that only you can read, and name it on every host "
                                        "in comm.secret_file or DSRT_SECRET_FILE", options_.address);
    uv_loop_init(&loop_);
    uv_async_init(&loop_, &wake_, [](uv_async_t* h) { static_cast<Node*>(h->data)->run_jobs(); });
    wake_.data = this;
    uv_timer_init(&loop_, &timer_);
    uv_timer_init(&loop_, &retry_);
    timer_.data = retry_.data = this;
    Status status = options_.rank == 0 ? listen() : ok();
    if (!status.ok()) {
        for (uv_handle_t* h : {reinterpret_cast<uv_handle_t*>(&wake_), reinterpret_cast<uv_handle_t*>(&timer_), reinterpret_cast<uv_handle_t*>(&retry_)}) uv_close(h, nullptr);
        uv_run(&loop_, UV_RUN_DEFAULT);
        uv_loop_close(&loop_);
        return status;
    }
    const auto every = static_cast<uint64_t>(std::max<int64_t>(options_.heartbeat.count() / 2, 10));
    uv_timer_start(&timer_, [](uv_timer_t* t) { static_cast<Node*>(t->data)->tick(); }, every, every);
    if (options_.rank != 0) connect_next();
    {
        std::lock_guard lock(jobs_mutex_);
        running_ = true;
    }
    sigset_t all, before;  // the host's signals are the host's
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { loop(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return ok();
}

void Node::loop() {
    uv_run(&loop_, UV_RUN_DEFAULT);
    uv_close(reinterpret_cast<uv_handle_t*>(&timer_), nullptr);
    uv_run(&loop_, UV_RUN_DEFAULT);
    {
        std::lock_guard lock(jobs_mutex_);
        running_ = false;
    }
    uv_loop_close(&loop_);
    std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = ds::fail(Code::E_STATE, "this process has left the job");
    changed_.notify_all();
}

Status Node::wait_for_all() {
    std::unique_lock lock(mutex_);
    if (options_.size == 1) return ok();
    // The first process gives up first: it can tell the others who is missing.
    const auto grace = std::chrono::milliseconds(options_.rank == 0 ? 0 : 2000);
    const bool came = changed_.wait_for(lock, options_.join_deadline + grace, [&] { return complete_ || !join_failure_.ok() || !failure_.ok(); });
    if (!join_failure_.ok()) return join_failure_;
    if (!failure_.ok()) return failure_;
    if (came) return ok();
    if (options_.rank != 0)
        return ds::fail(Code::E_TIMEOUT, "rank {} did not find rank 0 at {} port {} within {} s: {}", options_.rank, options_.address, options_.port, seconds(options_.join_deadline), last_trouble_);
    std::string missing;
    for (size_t r = 0; r < here_.size(); ++r)
        if (!here_[r]) missing += (missing.empty() ? "" : ", ") + std::to_string(r);
    const Status status = ds::fail(Code::E_TIMEOUT, "rank {} of {} did not come within {} s", missing, options_.size, seconds(options_.join_deadline));
    lock.unlock();
    post([this, status] { spread(status, -1); });
    return status;
}

void Node::connect_next() {
    auto peer = std::make_unique<Peer>();
    uv_tcp_init(&loop_, &peer->tcp);
    peer->tcp.data = this;
    peer_ = peer.get();
    peers_.push_back(std::move(peer));
    sockaddr_storage at = address_;
    port_ = options_.port + attempt_++ % kPorts;
    set_port(at, port_);
    struct Connect {
        uv_connect_t request{};
        Peer* peer = nullptr;
    };
    auto* c = new Connect{{}, peer_};
    c->request.data = c;
    const int error = uv_tcp_connect(&c->request, &peer_->tcp, reinterpret_cast<const sockaddr*>(&at), [](uv_connect_t* r, int status) {
        const std::unique_ptr<Connect> held(static_cast<Connect*>(r->data));
        if (status == UV_ECANCELED) return;
        static_cast<Node*>(held->peer->tcp.data)->on_connected(*held->peer, status);
    });
    if (error != 0) {
        delete c;
        lost(*peer_, uv_strerror(error));
    }
}

void Node::on_connected(Peer& peer, int status) {
    if (status != 0) return lost(peer, uv_strerror(status));
    sockaddr_storage own{};
    int n = sizeof own;
    if (uv_tcp_getsockname(&peer.tcp, reinterpret_cast<sockaddr*>(&own), &n) == 0) own_address_ = text_of(own);
    start_reading(peer);
    peer.client_nonce = random_bytes();
    write(peer, encode(Type::hello, {std::to_string(options_.rank), std::to_string(options_.size), options_.job, std::to_string(options_.epoch), peer.client_nonce}));
}

void Node::start_reading(Peer& peer) {
    uv_tcp_nodelay(&peer.tcp, 1);
    // libuv hands the same memory back in the read callback, on the same thread.
    uv_read_start(reinterpret_cast<uv_stream_t*>(&peer.tcp),
                  [](uv_handle_t*, size_t, uv_buf_t* buffer) {
                      static thread_local char memory[16384];
                      *buffer = uv_buf_init(memory, sizeof memory);
                  },
                  [](uv_stream_t* stream, ssize_t n, const uv_buf_t* buffer) {
                      auto* node = static_cast<Node*>(stream->data);
                      for (auto& p : node->peers_)
                          if (reinterpret_cast<uv_stream_t*>(&p->tcp) == stream) return node->on_bytes(*p, n, buffer->base);
                  });
}

void Node::on_bytes(Peer& peer, ssize_t n, const char* bytes) {
    if (n < 0) return lost(peer, n == UV_EOF ? "its connection was closed" : uv_strerror(static_cast<int>(n)));
    peer.heard = Clock::now();
    peer.in.append(bytes, static_cast<size_t>(n));
    std::string bad;
    while (!peer.closing) {
        const auto frame = decode(peer.in, peer.rank >= 0 ? kLargest : kLargestStranger, bad);
        if (!bad.empty()) return lost(peer, bad);
        if (!frame) return;
        on_frame(peer, *frame);
    }
}

void Node::on_frame(Peer& peer, const Frame& frame) {
    if (frame.type == Type::failure && peer.rank >= 0) {
        const auto code = -frame.number(0);
        const Status why(code >= -15 && code <= -1 ? static_cast<Code>(code) : Code::E_COMM, frame.field(1));
        if (options_.rank == 0) return spread(why, peer.rank);
        return note_failure(why);
    }
    if (frame.type == Type::bye) {
        peer.said_bye = true;
        return;
    }
    if (frame.type == Type::beat) return;
    options_.rank == 0 ? server_frame(peer, frame) : client_frame(peer, frame);
}

void Node::refuse(Peer& peer, const std::string& why, bool another_port_may_do) {
    write(peer, encode(Type::refuse, {why, another_port_may_do ? "1" : "0"}));
    peer.said_bye = true;  // its going is no failure
    close(peer);
}

void Node::hello(Peer& peer, const Frame& frame) {
    const int64_t rank = frame.number(0), size = frame.number(1);
    if (frame.field(2) != options_.job) return refuse(peer, "another job listens there", true);
    if (frame.number(3) != options_.epoch) return refuse(peer, fmt::format("rank 0 is at restart {} of the job, rank {} at {}", options_.epoch, rank, frame.field(3)), true);
    if (size != options_.size) return refuse(peer, fmt::format("rank {} was started for a job of {} processes, rank 0 for one of {}", rank, frame.field(1), options_.size), false);
    if (rank < 1 || rank >= options_.size) return refuse(peer, fmt::format("there is no rank {} in a job of {} processes", frame.field(0), options_.size), false);
    if (here_[static_cast<size_t>(rank)]) return refuse(peer, fmt::format("rank {} is there already", rank), true);
    peer.claims = rank;
    peer.client_nonce = frame.field(4);
    peer.server_nonce = random_bytes();
    write(peer, encode(Type::challenge, {peer.server_nonce, proof_of(options_, "server", rank, peer.client_nonce, peer.server_nonce)}));
}

void Node::server_frame(Peer& peer, const Frame& frame) {
    if (peer.rank < 0) {
        if (frame.type == Type::hello && peer.claims < 0) return hello(peer, frame);
        if (frame.type != Type::proof || peer.claims < 0) return lost(peer, "it did not introduce itself");
        if (!equal_in_constant_time(frame.field(0), proof_of(options_, "client", peer.claims, peer.client_nonce, peer.server_nonce)))
            return refuse(peer, fmt::format("rank {} does not know the secret of this job", peer.claims), false);
        if (here_[static_cast<size_t>(peer.claims)]) return refuse(peer, fmt::format("rank {} is there already", peer.claims), true);
        peer.rank = peer.claims;
        here_[static_cast<size_t>(peer.rank)] = true;
        write(peer, encode(Type::welcome));
        if (std::find(here_.begin(), here_.end(), false) != here_.end()) return;
        for (auto& p : peers_)
            if (p->rank >= 0) write(*p, encode(Type::ready));
        std::lock_guard lock(mutex_);
        complete_ = true;
        changed_.notify_all();
        return;
    }
    if (frame.type == Type::set) return store(frame.field(0), frame.field(1));
    if (frame.type == Type::get) {
        std::unique_lock lock(mutex_);
        const auto known = values_.find(frame.field(0));
        if (known == values_.end()) {
            if (wanted_.size() < static_cast<size_t>(options_.size) * 1024) wanted_.emplace(frame.field(0), peer.rank);
            return;
        }
        const std::string answer = encode(Type::value, {known->first, known->second});
        lock.unlock();
        return write(peer, answer);
    }
    lost(peer, "it sent a frame that has no place there");
}

void Node::client_frame(Peer& peer, const Frame& frame) {
    if (frame.type == Type::challenge) {
        peer.server_nonce = frame.field(0);
        if (!equal_in_constant_time(frame.field(1), proof_of(options_, "server", options_.rank, peer.client_nonce, peer.server_nonce)))
            return give_up(ds::fail(Code::E_COMM, "rank 0 at {} port {} does not know the secret that rank {} has", options_.address, port_, options_.rank));
        peer.knows_secret = true;
        return write(peer, encode(Type::proof, {proof_of(options_, "client", options_.rank, peer.client_nonce, peer.server_nonce)}));
    }
    if (frame.type == Type::refuse) {
        if (frame.field(1) == "1") {
            {
                std::lock_guard lock(mutex_);
                last_trouble_ = frame.field(0);
            }
            return;  // it hangs up, and the next port is tried
        }
        return give_up(ds::fail(Code::E_COMM, "{}", frame.field(0)));
    }
    if (!peer.knows_secret) return lost(peer, "what answers there did not prove that it knows the secret");
    if (frame.type == Type::welcome) {
        peer.rank = 0;
        return;
    }
    std::lock_guard lock(mutex_);
    if (frame.type == Type::ready) complete_ = true;
    if (frame.type == Type::value) values_[frame.field(0)] = frame.field(1);
    changed_.notify_all();
}

void Node::store(const std::string& key, const std::string& value) {
    {
        std::lock_guard lock(mutex_);
        values_[key] = value;
        changed_.notify_all();
    }
    const auto [begin, end] = wanted_.equal_range(key);
    for (auto it = begin; it != end; ++it)
        for (auto& p : peers_)
            if (p->rank == it->second) write(*p, encode(Type::value, {key, value}));
    wanted_.erase(begin, end);
}

// A failure goes from whoever sees it to the first process, and from there to all.
void Node::spread(const Status& why, int64_t except) {
    const std::string frame = encode(Type::failure, {std::to_string(-static_cast<int>(why.code())), why.message().substr(0, 4096)});
    for (auto& p : peers_)
        if (p->rank >= 0 && p->rank != except) write(*p, frame);
    note_failure(why);
}

void Node::lost(Peer& peer, const std::string& why) {
    if (peer.closing) return;
    const int64_t rank = peer.rank;
    const bool bye = peer.said_bye;
    close(peer);
    if (leaving_ || bye) return;
    if (rank >= 0) return spread(ds::fail(Code::E_COMM, "rank {} is gone: {}", rank, why), rank);
    if (options_.rank == 0) return;  // a stranger
    {
        std::lock_guard lock(mutex_);
        if (!why.empty() && last_trouble_ == "nothing answers there") last_trouble_ = fmt::format("nothing answers there ({})", why);
        if (!join_failure_.ok()) return;
    }
    uv_timer_start(&retry_, [](uv_timer_t* t) { static_cast<Node*>(t->data)->connect_next(); }, static_cast<uint64_t>(kRetry.count()), 0);
}

void Node::tick() {
    const auto now = Clock::now();
    std::vector<std::pair<Peer*, std::string>> late;
    for (auto& p : peers_) {
        if (p->closing) continue;
        if (p->rank >= 0) write(*p, encode(Type::beat));
        if (p->rank < 0 && now - p->since > kHandshake) late.emplace_back(p.get(), "it did not finish its introduction");
        if (p->rank >= 0 && now - p->heard > options_.silence) late.emplace_back(p.get(), fmt::format("nothing was heard of it for {} s; it is stopped, or its host is cut off", seconds(options_.silence)));
    }
    for (auto& [peer, why] : late) lost(*peer, why);
}

void Node::close(Peer& peer) {
    if (peer.closing) return;
    peer.closing = true;
    if (&peer == peer_) peer_ = nullptr;
    // What was written last (a refusal, a good-bye) still goes out.
    auto* shutdown = new uv_shutdown_t;
    const int error = uv_shutdown(shutdown, reinterpret_cast<uv_stream_t*>(&peer.tcp), [](uv_shutdown_t* s, int) {
        auto* handle = reinterpret_cast<uv_handle_t*>(s->handle);
        delete s;
        if (!uv_is_closing(handle))
            uv_close(handle, closed);
    });
    if (error == 0) return;
    delete shutdown;
    uv_close(reinterpret_cast<uv_handle_t*>(&peer.tcp), closed);
}

void Node::leave() {
    if (leaving_) return;
    leaving_ = true;
    for (auto& p : peers_)
        if (!p->closing && p->rank >= 0) write(*p, encode(Type::bye));
    std::vector<Peer*> open;
    for (auto& p : peers_) open.push_back(p.get());
    for (Peer* p : open) close(*p);
    if (listening_) uv_close(reinterpret_cast<uv_handle_t*>(&listener_), nullptr);
    uv_close(reinterpret_cast<uv_handle_t*>(&retry_), nullptr);
    uv_timer_stop(&timer_);
    // A peer that does not read would keep what is written to it, and this thread, for ever.
    uv_timer_start(&timer_, [](uv_timer_t* t) {
        auto* node = static_cast<Node*>(t->data);
        for (auto& p : node->peers_)
            if (auto* h = reinterpret_cast<uv_handle_t*>(&p->tcp); !uv_is_closing(h)) uv_close(h, closed);
    }, 200, 0);
    uv_unref(reinterpret_cast<uv_handle_t*>(&timer_));
    uv_close(reinterpret_cast<uv_handle_t*>(&wake_), nullptr);
}

}  // namespace

Result<std::unique_ptr<Rendezvous>> Rendezvous::join(const Options& options, Failed failed) {
    auto node = std::make_unique<Node>(options, std::move(failed));
    DS_CHECK(node->start());
    DS_CHECK(node->wait_for_all());
    return std::unique_ptr<Rendezvous>(std::move(node));
}

}  // namespace ds::rendezvous
