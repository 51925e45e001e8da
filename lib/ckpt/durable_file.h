// DurableFile: streams a new file to disk, computes its checksum in the same pass, and shows it under its name only when it is complete.
//
// Bytes go to a temporary file beside the target; commit() syncs it, renames it over the target and syncs the folder. Whoever drops
// a DurableFile without commit(), after an error say, leaves the target as it was and no temporary file behind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace ds {

// XXH3-128 (Collet, https://xxhash.com), in the canonical big-endian hexadecimal form that the xxhsum program prints.
class Checksum {
public:
    Checksum();
    void update(std::span<const std::byte> bytes);
    std::string hex() const;  // of all bytes so far

private:
    struct Free {
        void operator()(void* state) const;
    };
    std::unique_ptr<void, Free> state_;
};

std::string checksum_of(std::span<const std::byte> bytes);
std::string checksum_of(std::string_view text);

class DurableFile {
public:
    static Result<DurableFile> create(std::filesystem::path path);
    DurableFile(DurableFile&& other) noexcept;
    DurableFile& operator=(DurableFile&&) = delete;
    ~DurableFile();

    Status append(std::span<const std::byte> bytes);
    Status append(std::string_view text);
    // Everything is written and synced, still under the temporary name. A failed sync is final: the kernel may have dropped the pages.
    Status finish();
    // finish() if need be, then the rename and the sync of the folder.
    Status commit();

    const std::filesystem::path& path() const { return path_; }
    uint64_t size() const { return size_; }                   // bytes appended
    std::string checksum() const { return checksum_.hex(); }  // of the bytes appended

    static constexpr uint64_t kPieceBytes = uint64_t{16} << 20;
    void sum_pieces() { sums_pieces_ = true; }  // before anything is appended
    std::vector<std::string> pieces() const;    // checksums of every kPieceBytes appended, the last piece is shorter

private:
    explicit DurableFile(std::filesystem::path path);
    Status write_out(std::span<const std::byte> bytes);
    void sum_piece(std::span<const std::byte> bytes);
    Status error(const char* action) const;

    std::filesystem::path path_, temporary_;
    int fd_ = -1;
    uint64_t size_ = 0, written_ = 0, queued_ = 0;
    std::string buffer_;  // gathers small pieces
    Checksum checksum_, piece_;
    uint64_t in_piece_ = 0;
    bool sums_pieces_ = false;
    std::vector<std::string> pieces_;
};

// A short text, whole or not at all.
Status write_durably(const std::filesystem::path& path, std::string_view text);

// A name from outside, made fit for a message: control characters become '?', and long ones are cut.
std::string shown(std::string_view name);

// True for one plain path component, which can't lead out of its folder or name a hidden file.
bool is_plain_name(std::string_view name);

}  // namespace ds
