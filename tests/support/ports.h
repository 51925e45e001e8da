// Ports for the jobs of tests.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>

namespace job {

inline bool is_free(int port) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    sockaddr_in at{};
    at.sin_family = AF_INET, at.sin_port = htons(static_cast<uint16_t>(port)), at.sin_addr.s_addr = htonl(INADDR_ANY);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    const bool free = bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
    close(fd);
    return free;
}

// The first of ten free ports (the rendezvous tries eight). They lie below those that the system gives to outgoing connections, and
// programs that run side by side begin at different ones.
inline int free_ports() {
    constexpr int kFirst = 12000, kEnd = 32000, kWidth = 10;
    static int next = kFirst + static_cast<int>(getpid() * 131L % ((kEnd - kFirst) / kWidth)) * kWidth;
    for (;;) {
        const int port = next;
        next = next + kWidth < kEnd ? next + kWidth : kFirst;
        int taken = 0;
        for (int i = 0; i < kWidth; ++i) taken += !is_free(port + i);
        if (taken == 0) return port;
    }
}

}  // namespace job
