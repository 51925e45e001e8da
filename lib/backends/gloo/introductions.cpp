// How processes introduce themselves: the first challenges each that comes, both prove that they know the secret, and only then is anything
// else heard.
#include <nettle/hmac.h>
#include <sys/random.h>

#include "backends/gloo/node.h"

namespace ds::rendezvous {
namespace {

// What a side proves: that it knows the secret, in this job, at this epoch, as this rank, now.
std::string proof_of(const Options& options, const char* side, int64_t rank, const std::string& client_nonce,
                     const std::string& server_nonce) {
    const std::string text =
        fmt::format("{}\n{}\n{}\n{}\n{}\n", side, options.job, options.epoch, rank, options.size) + client_nonce + server_nonce;
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

}  // namespace

std::string random_bytes() {
    std::string bytes(32, '\0');
    size_t at = 0;
    while (at < bytes.size()) {
        const ssize_t n = getrandom(bytes.data() + at, bytes.size() - at, 0);
        if (n > 0) at += static_cast<size_t>(n);
    }
    return bytes;
}

void Node::on_frame(Peer& peer, const Frame& frame) {
    if (frame.type == Type::failure && peer.rank >= 0) {
        const auto code = -frame.number(0);
        const Status why(code >= -15 && code <= -1 ? static_cast<Code>(code) : Code::E_COMM, frame.field(1));
        if (options_.rank == 0) return spread(why, peer.rank);
        return note_failure(why);
    }
    if (frame.type == Type::bye && peer.rank >= 0) {
        const int64_t who = options_.rank == 0 || frame.fields.empty() ? peer.rank : frame.number(0);  // the first process passes it on
        if (who == peer.rank) peer.said_bye = true;
        if (options_.rank == 0) tell_all(encode(Type::bye, {std::to_string(who)}), who);
        std::lock_guard lock(mutex_);
        if (who >= 0 && who < options_.size) left_[static_cast<size_t>(who)] = true;
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
    if (frame.number(3) != options_.epoch)
        return refuse(peer, fmt::format("rank 0 is at restart {} of the job, rank {} at {}", options_.epoch, rank, frame.field(3)), true);
    if (size != options_.size)
        return refuse(
            peer, fmt::format("rank {} was started for a job of {} processes, rank 0 for one of {}", rank, frame.field(1), options_.size),
            false);
    if (rank < 1 || rank >= options_.size)
        return refuse(peer, fmt::format("there is no rank {} in a job of {} processes", frame.field(0), options_.size), false);
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
            return give_up(ds::fail(Code::E_COMM, "rank 0 at {} port {} does not know the secret that rank {} has", options_.address, port_,
                                    options_.rank));
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

}  // namespace ds::rendezvous
