// Rendezvous: how processes that know only an address and their number find each other, prove that they belong together, and hear when one
// is gone.
//
// The first process listens; the others come to it, and both sides prove by HMAC-SHA-256 that they know the job's secret. It then keeps a
// small store of named values (addresses of data connections), passes failures on, and misses heartbeats. One libuv thread a process; it
// listens on loopback alone unless the job spans hosts, which needs a secret.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"

namespace ds::rendezvous {

struct Options {
    int rank = 0, size = 1;
    std::string address;   // of the first process
    int port = 0;          // the first of kPorts that are tried
    bool one_host = true;  // all processes are on this host: loopback
    std::string secret, job;
    int64_t epoch = 0;  // of the job: one that was restarted counts up
    std::chrono::milliseconds join_deadline{60000}, heartbeat{5000}, silence{15000};
};
inline constexpr int kPorts = 8;

using Failed = std::function<void(const Status&)>;  // called by the rendezvous' thread, once

class Rendezvous {
public:
    // Comes back when all processes are there.
    static Result<std::unique_ptr<Rendezvous>> join(const Options& options, Failed failed);
    virtual ~Rendezvous() = default;  // says good-bye

    virtual void set(const std::string& key, const std::string& value) = 0;
    virtual Result<std::string> get(const std::string& key,
                                    std::chrono::steady_clock::time_point until) = 0;  // waits until somebody has set it
    virtual void fail(const Status& why) = 0;                                          // tells all
    // Whether it has said good-bye, or nobody is left who would tell.
    virtual bool has_left(int rank) const = 0;
    virtual std::string own_address() const = 0;  // as the others see this host
    virtual int port() const = 0;                 // that the first process listens on
};

}  // namespace ds::rendezvous
