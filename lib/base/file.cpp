#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace ds {
namespace {

// A file descriptor that closes itself.
struct Descriptor {
    int fd;
    ~Descriptor() {
        if (fd >= 0) ::close(fd);
    }
};

Status io_error(const std::filesystem::path& path, const char* action) {
    const int error = errno;
    return fail(error == ENOENT ? Code::E_NOT_FOUND : Code::E_IO, "{}: cannot {}: {}", path.string(), action, std::strerror(error));
}

Result<size_t> size_of_regular_file(const Descriptor& file, const std::filesystem::path& path) {
    struct stat info {};
    if (::fstat(file.fd, &info) != 0) return io_error(path, "inspect");
    if (!S_ISREG(info.st_mode)) return fail(Code::E_IO, "{}: is not a regular file", path.string());
    return static_cast<size_t>(info.st_size);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
    Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.fd < 0) return io_error(path, "open");
    DS_TRY(const size_t size, size_of_regular_file(file, path));
    MappedFile mapped;
    mapped.size_ = size;
    if (size > 0) {
        void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
        if (data == MAP_FAILED) return io_error(path, "map");
        mapped.data_ = static_cast<const std::byte*>(data);
    }
    return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

MappedFile::~MappedFile() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::let_go(std::span<const std::byte> part) {
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE)), from = reinterpret_cast<uintptr_t>(part.data()),
               begin = (from + page - 1) / page * page, end = (from + part.size()) / page * page;
    if (begin < end) (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

Result<std::string> MappedFile::copy(size_t at, size_t n) const {
    std::string out(n, '\0');
    for (size_t done = 0; done < n;) {
        // The kernel answers EFAULT for pages that are gone, and keeps pages of a file that was unlinked or replaced, without holding a
        // descriptor for each of the many files that a data set may have.
        const iovec to{out.data() + done, n - done}, from{const_cast<std::byte*>(data_) + at + done, n - done};
        const ssize_t copied = ::process_vm_readv(::getpid(), &to, 1, &from, 1, 0);
        if (copied < 0 && (errno == ENOSYS || errno == EPERM)) {  // a sandbox that has no such call
            std::memcpy(out.data() + done, data_ + at + done, n - done);
            break;
        }
        if (copied <= 0) return fail(Code::E_IO, "ended before byte {}, though it had {} when it was opened", at + n, size_);
        done += static_cast<size_t>(copied);
    }
    return out;
}

Result<std::string> read_file(const std::filesystem::path& path, size_t limit_bytes) {
    Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.fd < 0) return io_error(path, "open");
    DS_TRY(const size_t size, size_of_regular_file(file, path));
    if (size > limit_bytes)
        return fail(Code::E_CORRUPT, "{}: {} bytes, more than the {} this kind of file may have", path.string(), size, limit_bytes);
    std::string contents(size, '\0');
    for (size_t done = 0; done < size;) {
        const ssize_t n = ::read(file.fd, contents.data() + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return io_error(path, "read");
        if (n == 0) return fail(Code::E_IO, "{}: ended at byte {} of {}", path.string(), done, size);
        done += static_cast<size_t>(n);
    }
    return contents;
}

Status sync_folder(const std::filesystem::path& folder) {
    Descriptor directory{::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (directory.fd < 0) return io_error(folder, "open");
    if (::fsync(directory.fd) != 0) return io_error(folder, "sync");
    return ok();
}

namespace {

Status write_file(const std::filesystem::path& path, std::string_view contents) {
    Descriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
    if (file.fd < 0) return io_error(path, "create");
    for (size_t done = 0; done < contents.size();) {
        const ssize_t n = ::write(file.fd, contents.data() + done, contents.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return io_error(path, "write");
        done += static_cast<size_t>(n);
    }
    if (::fsync(file.fd) != 0) return io_error(path, "sync");
    return ok();
}

}  // namespace

Status write_file_atomically(const std::filesystem::path& path, std::string_view contents) {
    std::filesystem::path temporary = path;
    temporary += ".tmp";
    Status written = write_file(temporary, contents);
    if (written.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) written = io_error(path, "rename into place");
    if (!written.ok()) {
        ::unlink(temporary.c_str());  // half a file helps nobody, least of all on a full disk
        return written;
    }
    return sync_folder(path.parent_path());
}

}  // namespace ds
