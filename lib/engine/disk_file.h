// DiskFile: arrays of one rank that lie in a file while it trains (DeepSpeed's "nvme"), read and written by threads of its own so that
// transfers run while others compute. The file is made at its full size, so that a full disk is told before training, and removed with the
// object.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/status.h"

namespace ds {

struct DiskOptions {
    int threads = 1;                // that transfer
    int64_t block_bytes = 1 << 20;  // of one request
};

class DiskFile {
public:
    // Makes folder/name, of so many zero bytes. key: of the configuration, for messages.
    static Result<std::unique_ptr<DiskFile>> create(const std::filesystem::path& folder, const std::string& name, int64_t bytes,
                                                    const DiskOptions& options, std::string key);
    ~DiskFile();
    DiskFile(const DiskFile&) = delete;

    // Some reads or writes that are waited for together. The memory must stay until then; destroying one waits.
    class Transfer {
    public:
        Transfer() = default;
        Transfer(const Transfer&) = delete;
        ~Transfer() { static_cast<void>(wait()); }
        Status wait();  // for all that was given so far; the first failure

    private:
        friend class DiskFile;
        void end(const Status& status);
        std::mutex mutex_;
        std::condition_variable done_;
        int64_t pending_ = 0;
        Status status_;
    };
    void read(Transfer& transfer, int64_t offset, void* to, int64_t bytes);
    void write(Transfer& transfer, int64_t offset, const void* from, int64_t bytes);

    Status read_now(int64_t offset, void* to, int64_t bytes);
    Status write_now(int64_t offset, const void* from, int64_t bytes);
    const std::filesystem::path& path() const { return path_; }
    int64_t bytes() const { return bytes_; }

private:
    struct Request {
        Transfer* transfer;
        int64_t offset;
        std::byte* memory;
        int64_t bytes;
        bool writes;
    };
    DiskFile(std::filesystem::path path, int64_t bytes, const DiskOptions& options, std::string key);
    void add(Request request);
    void loop();
    Status carry_out(const Request& request) const;

    const std::filesystem::path path_;
    const int64_t bytes_;
    const DiskOptions options_;
    const std::string key_;
    int file_ = -1;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Request> requests_;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace ds
