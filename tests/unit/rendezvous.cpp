// The rendezvous of processes against strangers: whatever comes to its port, or answers at it, the job forms and goes on, and nobody
// without the secret is in it.
#include "backends/gloo/rendezvous.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <random>
#include <sstream>

#include "backends/gloo/frames.h"
#include "support/ports.h"

using namespace ds;
using namespace ds::rendezvous;
using job::free_ports;
using namespace std::chrono_literals;

namespace {

const std::string kSecret = "a secret of this job";

Options options_of(int rank, int size, int port) {
    Options o;
    o.rank = rank, o.size = size, o.address = "127.0.0.1", o.port = port, o.secret = kSecret, o.job = "test";
    o.join_deadline = 300s;
    return o;
}

using Joined = std::future<Result<std::unique_ptr<Rendezvous>>>;
Joined join(Options o) {
    return std::async(std::launch::async, [o] { return Rendezvous::join(o, [](const Status&) {}); });
}

struct Socket {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    Socket() = default;
    explicit Socket(int taken) : fd(taken) {}
    Socket(const Socket&) = delete;
    Socket(Socket&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
    ~Socket() {
        if (fd >= 0) close(fd);
    }
    static sockaddr_in at(int port) {
        sockaddr_in a{};
        a.sin_family = AF_INET, a.sin_port = htons(static_cast<uint16_t>(port)), a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return a;
    }
    bool connects(int port) const {
        const sockaddr_in a = at(port);
        for (int i = 0; i < 200; ++i) {
            if (connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0) return true;
            std::this_thread::sleep_for(10ms);
        }
        return false;
    }
    void says(const std::string& bytes) const { static_cast<void>(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL)); }
    // Whether the other side hangs up soon.
    bool is_dropped() const {
        timeval wait{5, 0};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        char bytes[4096];
        for (;;) {
            const ssize_t n = recv(fd, bytes, sizeof bytes, 0);
            if (n == 0) return true;
            if (n < 0) return errno == ECONNRESET;
        }
    }
};

// A header as it stands, whatever it says.
std::string header(uint32_t magic, uint8_t version, uint8_t type, uint32_t length, uint8_t zero = 0) {
    std::string out(kHeader, '\0');
    std::memcpy(out.data(), &magic, 4);
    out[4] = static_cast<char>(version), out[5] = static_cast<char>(type), out[6] = static_cast<char>(zero);
    std::memcpy(out.data() + 8, &length, 4);
    return out;
}

const struct {
    const char* name;
    std::string bytes;
} kHostile[] = {
    {"HTTP", "GET / HTTP/1.1\r\nHost: here\r\n\r\n"},
    {"zeros", std::string(4096, '\0')},
    {"another version", header(kMagic, 9, 1, 0)},
    {"an unknown type", header(kMagic, kVersion, 99, 0)},
    {"no type", header(kMagic, kVersion, 0, 0)},
    {"reserved bytes", header(kMagic, kVersion, 1, 0, 7)},
    {"a frame of 4 GiB", header(kMagic, kVersion, 1, 0xffffffff)},
    {"more than strangers may say", header(kMagic, kVersion, 1, 1025)},
    {"a field longer than its frame", header(kMagic, kVersion, 1, 8) + std::string("\xff\xff\xff\xff\0\0\0\0", 8)},
    {"half a field's length", header(kMagic, kVersion, 1, 2) + "ab"},
    {"nine fields", encode(Type::hello, std::vector<std::string>(9, "x"))},
    {"a set before an introduction", encode(Type::set, {"key", "value"})},
    {"a failure before an introduction", encode(Type::failure, {"10", "all is lost"})},
    {"a proof without a challenge", encode(Type::proof, {std::string(32, 'x')})},
    {"a hello of no rank", encode(Type::hello, {"7", "2", "test", "0", "nonce"})},
    {"a hello of rank -1", encode(Type::hello, {"-1", "2", "test", "0", "nonce"})},
    {"a hello of another job", encode(Type::hello, {"1", "2", "other", "0", "nonce"})},
    {"a hello of another restart", encode(Type::hello, {"1", "2", "test", "3", "nonce"})},
    {"a hello of another size", encode(Type::hello, {"1", "3", "test", "0", "nonce"})},
    {"a wrong proof", encode(Type::hello, {"1", "2", "test", "0", "nonce"}) + encode(Type::proof, {std::string(32, 'x')})},
};

void is_pestered(int port) {
    for (const auto& [name, bytes] : kHostile) {
        const Socket s;
        REQUIRE(s.connects(port));
        s.says(bytes);
        CHECK_MESSAGE(s.is_dropped(), name);
    }
    std::mt19937 random(3);
    for (int i = 0; i < 50; ++i) {
        const Socket s;
        REQUIRE(s.connects(port));
        std::string bytes = encode(Type::hello, {"1", "2", "test", "0", "nonce"});
        for (int k = 0; k < 4; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
        s.says(bytes);
    }
}

}  // namespace

TEST_CASE("rendezvous/frames_survive_any_bytes") {
    std::mt19937 random(1);
    const std::string good = encode(Type::set, {"a key", std::string(300, 'v'), ""});
    for (int i = 0; i < 20000; ++i) {
        std::string bytes = good + good;
        bytes.resize(random() % (bytes.size() + 1));
        for (unsigned k = random() % 6; k > 0 && !bytes.empty(); --k) bytes[random() % bytes.size()] = static_cast<char>(random());
        std::string bad;
        size_t before = bytes.size();
        while (const auto frame = decode(bytes, kLargest, bad)) {
            size_t held = 0;
            for (const std::string& field : frame->fields) held += field.size() + 4;
            REQUIRE(bytes.size() + kHeader + held == before);  // every byte is in one field
            before = bytes.size();
        }
    }
    std::string bytes = good, bad;
    const auto frame = decode(bytes, kLargest, bad);
    REQUIRE(frame);
    CHECK(frame->field(1) == std::string(300, 'v'));
    CHECK(frame->field(9).empty());
    CHECK(bytes.empty());
}

TEST_CASE("rendezvous/strangers_change_nothing") {
    const int port = free_ports();
    Joined first = join(options_of(0, 2, port));
    is_pestered(port);
    std::vector<Socket> silent(100);  // more than it has room for; each says a byte and waits
    for (const Socket& s : silent) {
        if (!s.connects(port)) continue;
        s.says("D");
    }
    silent.clear();
    Joined second = join(options_of(1, 2, port));
    auto b = second.get(), a = first.get();
    REQUIRE_MESSAGE(b.ok(), b.status().message());
    REQUIRE_MESSAGE(a.ok(), a.status().message());
    CHECK((*a)->port() == port);
    is_pestered(port);
    (*b)->set("greeting", "hello");
    const auto heard = (*a)->get("greeting", std::chrono::steady_clock::now() + 5s);
    REQUIRE_MESSAGE(heard.ok(), heard.status().message());
    CHECK(*heard == "hello");
}

TEST_CASE("rendezvous/who_says_good_bye_is_known_to_all") {
    const int port = free_ports();
    std::vector<Joined> joining;
    for (int r = 0; r < 3; ++r) joining.push_back(join(options_of(r, 3, port)));
    std::vector<std::unique_ptr<Rendezvous>> all;
    for (Joined& one : joining) {
        auto joined = one.get();
        REQUIRE_MESSAGE(joined.ok(), joined.status().message());
        all.push_back(std::move(*joined));
    }
    for (const int r : {0, 2}) CHECK(!all[static_cast<size_t>(r)]->has_left(1));
    all[1].reset();
    for (const int r : {0, 2})
        while (!all[static_cast<size_t>(r)]->has_left(1)) std::this_thread::sleep_for(1ms);
    CHECK(!all[0]->has_left(2));
    CHECK(!all[2]->has_left(0));
    all[0].reset();  // nobody would tell of others now
    while (!all[1 + 1]->has_left(0)) std::this_thread::sleep_for(1ms);
}

TEST_CASE("rendezvous/one_host_listens_on_loopback_alone") {
    const int port = free_ports();
    Joined first = join(options_of(0, 2, port)), second = join(options_of(1, 2, port));
    auto a = first.get(), b = second.get();
    REQUIRE(a.ok());
    REQUIRE(b.ok());
    int listening = 0;
    for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        std::ifstream in(table);
        for (std::string line; std::getline(in, line);) {
            std::istringstream words(line);
            std::string number, local, remote, state;
            words >> number >> local >> remote >> state;
            if (state != "0A" || local.substr(local.rfind(':') + 1) != fmt::format("{:04X}", port)) continue;
            ++listening;
            CHECK(local.substr(0, local.rfind(':')) == "0100007F");
        }
    }
    CHECK(listening == 1);
}

TEST_CASE("rendezvous/who_does_not_know_the_secret_is_refused") {
    const int port = free_ports();
    Options one = options_of(0, 2, port), other = options_of(1, 2, port);
    one.join_deadline = 3s;
    other.secret = "another secret";
    Joined first = join(one), second = join(other);
    const auto b = second.get(), a = first.get();
    CHECK(b.status().code() == Code::E_COMM);
    CHECK_MESSAGE(b.status().message().find("does not know the secret") != std::string::npos, b.status().message());
    CHECK(a.status().code() == Code::E_TIMEOUT);
    CHECK_MESSAGE(a.status().message().find("rank 1 of 2 did not come") != std::string::npos, a.status().message());
}

TEST_CASE("rendezvous/several_hosts_need_a_secret") {
    Options o = options_of(0, 2, free_ports());
    o.one_host = false;
    o.secret.clear();
    const auto a = Rendezvous::join(o, [](const Status&) {});
    CHECK(a.status().code() == Code::E_CONFIG);
    CHECK_MESSAGE(a.status().message().find("DSRT_SECRET_FILE") != std::string::npos, a.status().message());
}

// Something else listens at the port and plays the first process without knowing the secret.
TEST_CASE("rendezvous/an_impostor_is_not_believed") {
    for (const std::string& answer :
         {encode(Type::welcome) + encode(Type::ready),
          encode(Type::challenge, {std::string(32, 'n'), std::string(32, 'p')}) + encode(Type::welcome) + encode(Type::ready),
          encode(Type::value, {"key", "value"}), std::string(2000, 'z')}) {
        const int port = free_ports();
        const Socket listener;
        const int yes = 1;
        setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        const sockaddr_in at = Socket::at(port);
        REQUIRE(bind(listener.fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
        REQUIRE(listen(listener.fd, 8) == 0);
        Options o = options_of(1, 2, port);
        o.join_deadline = 500ms;
        Joined joining = join(o);
        const Socket met(accept(listener.fd, nullptr, nullptr));
        met.says(answer);
        const auto joined = joining.get();
        REQUIRE(!joined.ok());
        const Code code = joined.status().code();
        CHECK((code == Code::E_COMM || code == Code::E_TIMEOUT));
    }
}

// torchrun starts a job again while processes of the round before may still be about: each round meets only itself, whoever holds the port.
TEST_CASE("rendezvous/a_restarted_job_meets_no_process_of_the_round_before") {
    const int port = free_ports();
    Options old_first = options_of(0, 2, port), old_second = options_of(1, 2, port);
    old_first.join_deadline = old_second.join_deadline = 3s;
    Options new_first = options_of(0, 2, port), new_second = options_of(1, 2, port);
    new_first.epoch = new_second.epoch = 1;
    Joined stale = join(old_first);
    {
        const Socket probe;
        REQUIRE(probe.connects(port));  // it holds the first port
    }
    Joined first = join(new_first), second = join(new_second);
    auto a = first.get(), b = second.get();
    REQUIRE_MESSAGE(a.ok(), a.status().message());
    REQUIRE_MESSAGE(b.ok(), b.status().message());
    CHECK((*a)->port() != port);
    (*a)->set("round", "1");
    const auto heard = (*b)->get("round", std::chrono::steady_clock::now() + 5s);
    REQUIRE_MESSAGE(heard.ok(), heard.status().message());
    const auto gone = stale.get();
    CHECK(gone.status().code() == Code::E_TIMEOUT);
    Joined late = join(old_second);  // and one of the old round that comes to the new one
    const auto refused = late.get();
    REQUIRE(!refused.ok());
    CHECK_MESSAGE(refused.status().message().find("restart 1 of the job, rank 1 at 0") != std::string::npos, refused.status().message());
}
