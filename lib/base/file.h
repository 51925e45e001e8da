// Files: a read-only mapping, whole-file reads, and writes that a crash can't tear.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "base/status.h"

namespace ds {

// A regular file mapped read-only. Moves; unmapped when destroyed. Reading what bytes() and text() give ends the process (SIGBUS) where
// someone has cut the file short meanwhile: copy() is for files that stay open for long.
class MappedFile {
public:
    static Result<MappedFile> open(const std::filesystem::path& path);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();
    std::span<const std::byte> bytes() const { return {data_, size_}; }
    std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
    // n bytes from `at`, which must lie in the file as it was when it was opened; E_IO where it ends before them by now.
    Result<std::string> copy(size_t at, size_t n) const;
    // Whole pages within a part of any mapping leave this process's memory; who reads them again gets them from the file.
    static void let_go(std::span<const std::byte> part);

private:
    MappedFile() = default;
    const std::byte* data_ = nullptr;
    size_t size_ = 0;
};

// The file's contents; an error names the path. Files over limit_bytes are refused.
Result<std::string> read_file(const std::filesystem::path& path, size_t limit_bytes = size_t{1} << 30);

// Writes to path + ".tmp", syncs it, renames it over path and syncs the folder: readers see the old file or the new one.
Status write_file_atomically(const std::filesystem::path& path, std::string_view contents);

// Makes a rename inside the folder durable.
Status sync_folder(const std::filesystem::path& folder);

}  // namespace ds
