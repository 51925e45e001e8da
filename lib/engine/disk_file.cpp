#include "engine/disk_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "data/threads.h"

namespace ds {

Result<std::unique_ptr<DiskFile>> DiskFile::create(const std::filesystem::path& folder, const std::string& name, int64_t bytes,
                                                   const DiskOptions& options, std::string key) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return fail(Code::E_IO, "{}: {}: cannot create the folder: {}", key, folder.string(), error.message());
    std::unique_ptr<DiskFile> file(new DiskFile(folder / name, bytes, options, std::move(key)));
    file->file_ = ::open(file->path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file->file_ < 0) return fail(Code::E_IO, "{}: {}: cannot be made: {}", file->key_, file->path_.string(), std::strerror(errno));
    if (const int failure = bytes > 0 ? ::posix_fallocate(file->file_, 0, bytes) : 0)
        return fail(Code::E_IO, "{}: {}: {} bytes cannot be reserved: {}", file->key_, file->path_.string(), bytes, std::strerror(failure));
    log(Level::debug, "offload", "{}: {} bytes on disk; {} threads, blocks of {} bytes", file->key_, bytes, options.threads,
        options.block_bytes);
    for (int i = 0; i < options.threads; ++i) file->threads_.push_back(start_quiet_thread([raw = file.get()] { raw->loop(); }));
    return file;
}

DiskFile::DiskFile(std::filesystem::path path, int64_t bytes, const DiskOptions& options, std::string key)
    : path_(std::move(path)), bytes_(bytes), options_(options), key_(std::move(key)) {}

DiskFile::~DiskFile() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    if (file_ < 0) return;
    ::close(file_);
    ::unlink(path_.c_str());
}

Status DiskFile::Transfer::wait() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return pending_ == 0; });
    return std::exchange(status_, Status());
}

void DiskFile::Transfer::end(const Status& status) {
    std::lock_guard lock(mutex_);
    if (status_.ok()) status_ = status;
    if (--pending_ == 0) done_.notify_all();
}

void DiskFile::read(Transfer& transfer, int64_t offset, void* to, int64_t bytes) {
    add({&transfer, offset, static_cast<std::byte*>(to), bytes, false});
}

void DiskFile::write(Transfer& transfer, int64_t offset, const void* from, int64_t bytes) {
    add({&transfer, offset, const_cast<std::byte*>(static_cast<const std::byte*>(from)), bytes, true});
}

// In pieces, so that several threads share a large one.
void DiskFile::add(Request request) {
    std::lock_guard lock(mutex_);
    for (int64_t at = 0; at < request.bytes; at += options_.block_bytes) {
        {
            std::lock_guard of_transfer(request.transfer->mutex_);
            ++request.transfer->pending_;
        }
        requests_.push_back({request.transfer, request.offset + at, request.memory + at, std::min(options_.block_bytes, request.bytes - at),
                             request.writes});
    }
    wake_.notify_all();
}

void DiskFile::loop() {
    for (;;) {
        Request request;
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return stop_ || !requests_.empty(); });
            if (requests_.empty()) return;
            request = requests_.front();
            requests_.pop_front();
        }
        request.transfer->end(carry_out(request));
    }
}

Status DiskFile::carry_out(const Request& request) const {
    for (int64_t at = 0; at < request.bytes;) {
        const auto left = static_cast<size_t>(request.bytes - at);
        const ssize_t done = request.writes ? ::pwrite(file_, request.memory + at, left, request.offset + at)
                                            : ::pread(file_, request.memory + at, left, request.offset + at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return fail(Code::E_IO, "{}: {}: {} bytes at {} cannot be {}: {}", key_, path_.string(), left, request.offset + at,
                        request.writes ? "written" : "read", done < 0 ? std::strerror(errno) : "the file was cut short");
        at += done;
    }
    return ok();
}

Status DiskFile::read_now(int64_t offset, void* to, int64_t bytes) {
    Transfer transfer;
    read(transfer, offset, to, bytes);
    return transfer.wait();
}

Status DiskFile::write_now(int64_t offset, const void* from, int64_t bytes) {
    Transfer transfer;
    write(transfer, offset, from, bytes);
    return transfer.wait();
}

}  // namespace ds
