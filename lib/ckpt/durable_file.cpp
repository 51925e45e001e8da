#include "ckpt/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // makes of XXH3's functions those that use the processor's widest instructions
#endif

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "base/file.h"

namespace ds {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr size_t kWriteBytes = size_t{512} << 10;         // hashed, then written while the cache still holds it
constexpr uint64_t kWriteBackBytes = uint64_t{16} << 20;  // start the disk early, so that the final sync finds little left to do

XXH3_state_t* hash_state(void* p) { return static_cast<XXH3_state_t*>(p); }

std::string to_hex(XXH128_hash_t hash) { return fmt::format("{:016x}{:016x}", hash.high64, hash.low64); }

}  // namespace

Checksum::Checksum() : state_(XXH3_createState()) {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(hash_state(state_.get()));
}

void Checksum::Free::operator()(void* state) const { XXH3_freeState(hash_state(state)); }
// While a stretch is summed the next one is asked for: files are mapped in small pages, at whose ends the processor's own prefetchers stop.
void Checksum::update(std::span<const std::byte> bytes) {
    constexpr size_t kStretch = 4096, kLine = 64;
    for (size_t at = 0; at < bytes.size(); at += kStretch) {
        const std::span<const std::byte> part = bytes.subspan(at, std::min(kStretch, bytes.size() - at)),
                                         next = bytes.subspan(at + part.size(), std::min(kStretch, bytes.size() - at - part.size()));
        for (size_t i = 0; i < next.size(); i += kLine) __builtin_prefetch(next.data() + i, 0, 2);
        XXH3_128bits_update(hash_state(state_.get()), part.data(), part.size());
    }
}
std::string Checksum::hex() const { return to_hex(XXH3_128bits_digest(hash_state(state_.get()))); }

std::string checksum_of(std::span<const std::byte> bytes) {
    Checksum sum;
    sum.update(bytes);
    return sum.hex();
}
std::string checksum_of(std::string_view text) { return checksum_of(std::as_bytes(std::span(text))); }

DurableFile::DurableFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_) { temporary_ += ".tmp"; }

Result<DurableFile> DurableFile::create(std::filesystem::path path) {
    DurableFile file(std::move(path));
    ::unlink(file.temporary_.c_str());  // what a killed writer left; a link put there by someone else is not followed
    file.fd_ = ::open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (file.fd_ < 0) return file.error("create");
    file.buffer_.reserve(kBufferBytes);
    return file;
}

DurableFile::DurableFile(DurableFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      written_(other.written_),
      queued_(other.queued_),
      buffer_(std::move(other.buffer_)),
      checksum_(std::move(other.checksum_)),
      piece_(std::move(other.piece_)),
      in_piece_(other.in_piece_),
      sums_pieces_(other.sums_pieces_),
      pieces_(std::move(other.pieces_)) {}

DurableFile::~DurableFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Status DurableFile::error(const char* action) const {
    const int code = errno;
    return fail(Code::E_IO, "{}: cannot {}: {}", path_.string(), action, std::strerror(code));
}

Status DurableFile::write_out(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const std::span<const std::byte> piece = bytes.first(std::min(bytes.size(), kWriteBytes));
        checksum_.update(piece);
        if (sums_pieces_) sum_piece(piece);
        for (size_t done = 0; done < piece.size();) {
            const ssize_t n = ::write(fd_, piece.data() + done, piece.size() - done);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return error("write");
            done += static_cast<size_t>(n);
        }
        written_ += piece.size();
        bytes = bytes.subspan(piece.size());
        if (written_ - queued_ >= kWriteBackBytes) {
            // Only a hint: where it is not known, the sync at the end does all the work.
            ::sync_file_range(fd_, static_cast<off64_t>(queued_), static_cast<off64_t>(written_ - queued_), SYNC_FILE_RANGE_WRITE);
            queued_ = written_;
        }
    }
    return ok();
}

void DurableFile::sum_piece(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto part = bytes.first(std::min<uint64_t>(bytes.size(), kPieceBytes - in_piece_));
        piece_.update(part);
        in_piece_ += part.size();
        bytes = bytes.subspan(part.size());
        if (in_piece_ < kPieceBytes) continue;
        pieces_.push_back(piece_.hex());
        piece_ = Checksum();
        in_piece_ = 0;
    }
}

std::vector<std::string> DurableFile::pieces() const {
    std::vector<std::string> all = pieces_;
    if (in_piece_ > 0) all.push_back(piece_.hex());
    return all;
}

Status DurableFile::append(std::span<const std::byte> bytes) {
    size_ += bytes.size();
    if (buffer_.size() + bytes.size() <= kBufferBytes) {
        buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return ok();
    }
    DS_CHECK(write_out(std::as_bytes(std::span(buffer_))));
    buffer_.clear();
    if (bytes.size() >= kWriteBytes) return write_out(bytes);
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return ok();
}

Status DurableFile::append(std::string_view text) { return append(std::as_bytes(std::span(text))); }

Status DurableFile::finish() {
    if (fd_ < 0) return ok();
    DS_CHECK(write_out(std::as_bytes(std::span(buffer_))));
    buffer_ = {};
    if (::fsync(fd_) != 0) return error("sync");
    const int fd = std::exchange(fd_, -1);
    if (::close(fd) != 0) return error("close");
    return ok();
}

Status DurableFile::commit() {
    DS_CHECK(finish());
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return error("rename into place");
    temporary_.clear();
    return sync_folder(path_.parent_path());
}

Status write_durably(const std::filesystem::path& path, std::string_view text) {
    DS_TRY(DurableFile file, DurableFile::create(path));
    DS_CHECK(file.append(text));
    return file.commit();
}

std::string shown(std::string_view name) {
    constexpr size_t kLongest = 200;
    std::string text(name.substr(0, kLongest));
    for (char& c : text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    if (name.size() > kLongest) text += fmt::format("... ({} bytes)", name.size());
    return text;
}

bool is_plain_name(std::string_view name) {
    constexpr size_t kLongest = 200;  // file systems end at 255, and temporary names add to it
    if (name.empty() || name.size() > kLongest || name.front() == '.') return false;
    return std::none_of(name.begin(), name.end(),
                        [](char c) { return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace ds
