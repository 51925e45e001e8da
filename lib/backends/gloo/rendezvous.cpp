#include "backends/gloo/rendezvous.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>

#include "backends/gloo/node.h"

namespace ds::rendezvous {
namespace {

constexpr std::chrono::seconds kHandshake{10};
constexpr std::chrono::milliseconds kRetry{100};

double seconds(std::chrono::milliseconds t) { return std::chrono::duration<double>(t).count(); }

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
    (a.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(a).sin_port : reinterpret_cast<sockaddr_in6&>(a).sin6_port) =
        htons(static_cast<uint16_t>(port));
}

Result<sockaddr_storage> resolve(const std::string& name) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (const int error = getaddrinfo(name.c_str(), nullptr, &hints, &found); error != 0)
        return ds::fail(Code::E_COMM, "{}: is no address that is known here: {}", name, gai_strerror(error));
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

Status is_gone(int64_t rank, const std::string& why) { return ds::fail(Code::E_COMM, "process {} is gone: {}", rank, why); }

std::string frame_of(const Status& failure) {
    return encode(Type::failure, {std::to_string(-static_cast<int>(failure.code())), failure.message().substr(0, 4096)});
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

}  // namespace

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
    return ds::fail(Code::E_COMM, "rank 0 can't listen at {} on a port of {} to {}: {}", options_.address, options_.port,
                    options_.port + kPorts - 1, uv_strerror(error));
}

Status Node::start() {
    DS_TRY(address_, resolve(options_.one_host ? "127.0.0.1" : options_.address));
    if (!options_.one_host && options_.secret.empty())
        return ds::fail(Code::E_CONFIG,
                        "the processes of this job are on several hosts ({}), which needs a secret: put random text into a file that only "
                        "you can read, and name it on every host "
                        "in comm.secret_file or DSRT_SECRET_FILE",
                        options_.address);
    uv_loop_init(&loop_);
    uv_async_init(&loop_, &wake_, [](uv_async_t* h) { static_cast<Node*>(h->data)->run_jobs(); });
    wake_.data = this;
    uv_timer_init(&loop_, &timer_);
    uv_timer_init(&loop_, &retry_);
    timer_.data = retry_.data = this;
    Status status = options_.rank == 0 ? listen() : ok();
    if (!status.ok()) {
        for (uv_handle_t* h :
             {reinterpret_cast<uv_handle_t*>(&wake_), reinterpret_cast<uv_handle_t*>(&timer_), reinterpret_cast<uv_handle_t*>(&retry_)})
            uv_close(h, nullptr);
        uv_run(&loop_, UV_RUN_DEFAULT);
        uv_loop_close(&loop_);
        return status;
    }
    const auto every = static_cast<uint64_t>(between_ticks().count());
    uv_timer_start(
        &timer_, [](uv_timer_t* t) { static_cast<Node*>(t->data)->tick(); }, every, every);
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
    const bool came =
        changed_.wait_for(lock, options_.join_deadline + grace, [&] { return complete_ || !join_failure_.ok() || !failure_.ok(); });
    if (!join_failure_.ok()) return join_failure_;
    if (!failure_.ok()) return failure_;
    if (came) return ok();
    if (options_.rank != 0)
        return ds::fail(Code::E_TIMEOUT, "rank {} did not find rank 0 at {} port {} within {} s: {}", options_.rank, options_.address,
                        options_.port, seconds(options_.join_deadline), last_trouble_);
    std::string missing;
    for (size_t r = 0; r < here_.size(); ++r)
        if (!here_[r]) missing += (missing.empty() ? "" : ", ") + std::to_string(r);
    const Status status =
        ds::fail(Code::E_TIMEOUT, "rank {} of {} did not come within {} s", missing, options_.size, seconds(options_.join_deadline));
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
    write(peer, encode(Type::hello, {std::to_string(options_.rank), std::to_string(options_.size), options_.job,
                                     std::to_string(options_.epoch), peer.client_nonce}));
}

void Node::start_reading(Peer& peer) {
    uv_tcp_nodelay(&peer.tcp, 1);
    // libuv hands the same memory back in the read callback, on the same thread.
    uv_read_start(
        reinterpret_cast<uv_stream_t*>(&peer.tcp),
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
    peer.quiet = 0;
    peer.in.append(bytes, static_cast<size_t>(n));
    std::string bad;
    while (!peer.closing) {
        const auto frame = decode(peer.in, peer.rank >= 0 ? kLargest : kLargestStranger, bad);
        if (!bad.empty()) return lost(peer, bad);
        if (!frame) return;
        on_frame(peer, *frame);
    }
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
    tell_all(frame_of(why), except);
    note_failure(why);
}

void Node::tell_all(const std::string& frame, int64_t except) {
    for (auto& p : peers_)
        if (p->rank >= 0 && p->rank != except) write(*p, frame);
}

void Node::lost(Peer& peer, const std::string& why) {
    if (peer.closing) return;
    const int64_t rank = peer.rank;
    const bool bye = peer.said_bye;
    close(peer);
    if (leaving_ || bye) return;
    if (rank >= 0) return spread(is_gone(rank, why), rank);
    if (options_.rank == 0) return;  // a stranger
    {
        std::lock_guard lock(mutex_);
        if (!why.empty() && last_trouble_ == "nothing answers there") last_trouble_ = fmt::format("nothing answers there ({})", why);
        if (!join_failure_.ok()) return;
    }
    uv_timer_start(
        &retry_, [](uv_timer_t* t) { static_cast<Node*>(t->data)->connect_next(); }, static_cast<uint64_t>(kRetry.count()), 0);
}

// Silence is counted in ticks, not by the clock: a process that was stopped itself has not read yet what the others said meanwhile.
void Node::tick() {
    const auto now = Clock::now();
    std::vector<Peer*> strangers, silent;
    for (auto& p : peers_) {
        if (p->closing) continue;
        if (p->rank >= 0) write(*p, encode(Type::beat));
        if (p->rank < 0 && now - p->since > kHandshake) strangers.push_back(p.get());
        if (p->rank >= 0 && ++p->quiet * between_ticks() > options_.silence) silent.push_back(p.get());
    }
    for (Peer* peer : strangers) lost(*peer, "it did not finish its introduction");
    for (Peer* peer : silent) {
        const std::string why =
            fmt::format("nothing was heard of it for {} s; it is stopped, or its host is cut off", seconds(options_.silence));
        write(*peer, frame_of(is_gone(peer->rank, why)));  // should it go on, it learns what became of it
        lost(*peer, why);
    }
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
        if (!uv_is_closing(handle)) uv_close(handle, closed);
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
    uv_timer_start(
        &timer_,
        [](uv_timer_t* t) {
            auto* node = static_cast<Node*>(t->data);
            for (auto& p : node->peers_)
                if (auto* h = reinterpret_cast<uv_handle_t*>(&p->tcp); !uv_is_closing(h)) uv_close(h, closed);
        },
        200, 0);
    uv_unref(reinterpret_cast<uv_handle_t*>(&timer_));
    uv_close(reinterpret_cast<uv_handle_t*>(&wake_), nullptr);
}

Result<std::unique_ptr<Rendezvous>> Rendezvous::join(const Options& options, Failed failed) {
    auto node = std::make_unique<Node>(options, std::move(failed));
    DS_CHECK(node->start());
    DS_CHECK(node->wait_for_all());
    return std::unique_ptr<Rendezvous>(std::move(node));
}

}  // namespace ds::rendezvous
