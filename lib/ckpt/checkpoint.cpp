#include "ckpt/checkpoint.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <tuple>

#include "ckpt/checkpoint_state.h"
#include "ckpt/durable_file.h"

namespace ds {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLatest = "latest";
constexpr std::string_view kNew = ".new", kOld = ".old";
constexpr size_t kMaxStateBytes = size_t{256} << 20;

// Working names begin with a dot, which no tag does: ".tag.new" is being written, ".tag.old" is being replaced.
fs::path working(const fs::path& dir, const std::string& tag, std::string_view what) { return dir / fmt::format(".{}{}", tag, what); }

bool is_folder(const fs::path& path) {
    std::error_code error;
    return fs::is_directory(path, error);
}

Status io_error(const fs::path& path, const char* action, int code) {
    return fail(Code::E_IO, "{}: cannot {}: {}", path.string(), action, std::strerror(code));
}

Status rename_path(const fs::path& from, const fs::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) return io_error(from, fmt::format("rename to {}", to.filename().string()).c_str(), errno);
    return ok();
}

Status remove_folder(const fs::path& path) {
    std::error_code error;
    fs::remove_all(path, error);
    return error ? fail(Code::E_IO, "{}: cannot remove: {}", path.string(), error.message()) : ok();
}

// Creates dir and whatever is missing above it, each durable in its parent.
Status create_folders(const fs::path& dir) {
    if (dir.empty() || is_folder(dir)) return ok();
    DS_CHECK(create_folders(dir.parent_path()));
    if (::mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST) return io_error(dir, "create the folder", errno);
    if (!is_folder(dir)) return fail(Code::E_IO, "{}: is not a folder", dir.string());
    return sync_folder(dir.parent_path());
}

// Savers take turns. The lock is on the folder itself, so it leaves nothing behind; the system drops it with the process.
class FolderLock {
public:
    explicit FolderLock(const fs::path& dir) : fd_(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
        if (fd_ < 0) return;
        int result;
        do result = ::flock(fd_, LOCK_EX);
        while (result != 0 && errno == EINTR);
        held_ = result == 0;
    }
    ~FolderLock() {
        if (fd_ >= 0) ::close(fd_);
    }
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;
    bool held() const { return held_; }  // false where the file system has no locks

private:
    int fd_;
    bool held_ = false;
};

// Finishes or undoes what killed savers left. Only the holder of the lock may: to it, every working name is stale.
Status clean_up(const fs::path& dir) {
    std::error_code error;
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir, error)) names.push_back(entry.path().filename().string());
    if (error) return fail(Code::E_IO, "{}: cannot list: {}", dir.string(), error.message());
    for (const std::string& name : names) {
        if (name.size() <= 1 + kNew.size() || name.front() != '.' || !is_folder(dir / name)) continue;
        const std::string tag = name.substr(1, name.size() - 1 - kNew.size());
        if (name.ends_with(kOld) && !is_folder(dir / tag)) {
            DS_CHECK(rename_path(dir / name, dir / tag));
        } else if (name.ends_with(kOld) || name.ends_with(kNew)) {
            DS_CHECK(remove_folder(dir / name));
        }
    }
    return ok();
}

// Puts the finished folder in the place of dir/tag. At every moment dir/tag, or else dir/.tag.old, is a whole checkpoint.
Status put_in_place(const fs::path& dir, const std::string& tag, const SaveOptions& options) {
    const fs::path fresh = working(dir, tag, kNew), old = working(dir, tag, kOld), target = dir / tag;
    if (is_folder(target)) {
        if (options.exchange && ::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0)
            return sync_folder(dir);
        DS_CHECK(remove_folder(old));
        DS_CHECK(rename_path(target, old));
        if (Status renamed = rename_path(fresh, target); !renamed.ok()) {
            (void)::rename(old.c_str(), target.c_str());
            return renamed;
        }
        return sync_folder(dir);
    }
    DS_CHECK(rename_path(fresh, target));
    return sync_folder(dir);
}

Status write_files(const fs::path& folder, const Json& state, const CheckpointFiles& files) {
    StateFile contents{state, {}};
    DS_TRY(const std::string unusable, state_text(contents));  // a state that can't be stored is better known before the long part
    for (const auto& [name, tensors] : files) {
        DS_TRY(DurableFile file, DurableFile::create(folder / name));
        file.sum_pieces();
        DS_CHECK(stream_safetensors(file, tensors, {{"format", "pt"}}));
        DS_CHECK(file.commit());
        contents.files.push_back({name, file.size(), file.checksum()});
        if (file.size() > DurableFile::kPieceBytes)
            contents.files.back().piece_bytes = DurableFile::kPieceBytes, contents.files.back().pieces = file.pieces();
    }
    DS_TRY(const std::string text, state_text(contents));
    return write_durably(folder / kStateFile, text);
}

// Removes the working folders of a save on every way out; the old checkpoint only where another one stands in its place.
struct Cleaner {
    fs::path fresh, old, target;
    ~Cleaner() {
        std::error_code ignored;
        fs::remove_all(fresh, ignored);
        if (is_folder(target)) fs::remove_all(old, ignored);
    }
};

// Hashing a mapping page fault by page fault is slow; asking for it in stretches is not.
void map_in([[maybe_unused]] std::span<const std::byte> part) {
#ifdef MADV_POPULATE_READ
    (void)::madvise(const_cast<std::byte*>(part.data()), part.size(), MADV_POPULATE_READ);
#endif
}

std::string checksum_of_mapping(std::span<const std::byte> bytes) {
    constexpr size_t kStretch = size_t{8} << 20;
    Checksum sum;
    for (size_t at = 0; at < bytes.size(); at += kStretch) {
        const std::span<const std::byte> part = bytes.subspan(at, std::min(kStretch, bytes.size() - at));
        map_in(part);
        sum.update(part);
    }
    return sum.hex();
}

// What is wrong with the bytes, if anything is.
Status verify(std::span<const std::byte> bytes, const FileRecord& record, const std::string& place, const Spread& spread) {
    const auto damaged = [&](const std::string& where, const std::string& sum, const std::string& expected) {
        return fail(Code::E_CORRUPT, "{}: its checksum is {}{}, but {} says {}: the file is damaged", place, sum, where, kStateFile,
                    shown(expected));
    };
    if (record.pieces.empty()) {
        const std::string sum = checksum_of_mapping(bytes);
        return sum == record.checksum ? ok() : damaged("", sum, record.checksum);
    }
    const auto piece = [&](int64_t i) {
        const size_t at = static_cast<size_t>(i) * record.piece_bytes;
        return bytes.subspan(at, std::min<size_t>(record.piece_bytes, bytes.size() - at));
    };
    std::atomic<int64_t> first_bad{INT64_MAX};
    spread(static_cast<int64_t>(record.pieces.size()), [&](int64_t i) {
        map_in(piece(i));
        if (checksum_of(piece(i)) == record.pieces[static_cast<size_t>(i)]) return;
        for (int64_t known = first_bad; i < known && !first_bad.compare_exchange_weak(known, i);) {}
    });
    const int64_t bad = first_bad;
    if (bad == INT64_MAX) return ok();
    const auto at = static_cast<uint64_t>(bad) * record.piece_bytes;
    return damaged(fmt::format(" in bytes {}..{}", at, at + piece(bad).size()), checksum_of(piece(bad)),
                   record.pieces[static_cast<size_t>(bad)]);
}

Result<SafetensorsFile> open_verified(const fs::path& path, const FileRecord& record, const Spread& spread) {
    std::error_code error;
    if (!fs::is_regular_file(path, error)) return fail(Code::E_CORRUPT, "{}: is missing, though {} lists it", path.string(), kStateFile);
    DS_TRY(MappedFile mapped, MappedFile::open(path));
    if (const uint64_t size = mapped.bytes().size(); size != record.bytes)
        return fail(Code::E_CORRUPT, "{}: {} bytes, but {} says {}", path.string(), size, kStateFile, record.bytes);
    // The checksum comes first: of a damaged file, a parser's complaint would name a symptom.
    DS_CHECK(verify(mapped.bytes(), record, path.string(), spread));
    return SafetensorsFile::parse(std::move(mapped), path.string());
}

// Where a checkpoint was found, and what tells its state.json from the next one under the same name.
struct Found {
    fs::path folder;
    std::tuple<uint64_t, int64_t, int64_t> identity;  // all zero: it has no state.json
};

std::tuple<uint64_t, int64_t, int64_t> identity_of(const fs::path& folder) {
    struct stat info {};
    if (::stat((folder / kStateFile).c_str(), &info) != 0) return {};
    return {info.st_ino, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
}

// dir/tag, or what a killed replacement left of it, or again dir/tag, in case a saver was between its renames during the first look.
Result<Found> find_folder(const fs::path& dir, const std::string& tag) {
    for (const fs::path& folder : {dir / tag, working(dir, tag, kOld), dir / tag})
        if (const auto identity = identity_of(folder); identity != Found{}.identity) return Found{folder, identity};
    if (is_folder(dir / tag)) return Found{dir / tag, {}};
    return fail(Code::E_NOT_FOUND, "{}: no such checkpoint", (dir / tag).string());
}

}  // namespace

Status check_tag(const std::string& tag) {
    DS_REQUIRE(is_plain_name(tag) && tag != kLatest && tag != "latest.tmp",
               "tag \"{}\" is not acceptable: 1 to 200 bytes without '/', '\\' and control characters, not beginning with '.', and not "
               "\"latest\"",
               shown(tag));
    return ok();
}

Status save_checkpoint(const fs::path& dir, const std::string& tag, const Json& state, const CheckpointFiles& files,
                       const SaveOptions& options) {
    DS_CHECK(check_tag(tag));
    for (const auto& [name, tensors] : files)
        DS_REQUIRE(is_plain_name(name) && name.ends_with(".safetensors"),
                   "file \"{}\" of a checkpoint: a plain name ending in .safetensors is accepted", shown(name));
    DS_CHECK(create_folders(dir));
    const FolderLock lock(dir);
    if (lock.held()) DS_CHECK(clean_up(dir));
    std::error_code error;
    if (fs::exists(dir / tag, error) && !is_folder(dir / tag))
        return fail(Code::E_IO, "{}: exists and is not a folder", (dir / tag).string());

    const Cleaner cleaner{working(dir, tag, kNew), working(dir, tag, kOld), dir / tag};
    DS_CHECK(remove_folder(cleaner.fresh));
    if (::mkdir(cleaner.fresh.c_str(), 0755) != 0) return io_error(cleaner.fresh, "create the folder", errno);
    DS_CHECK(write_files(cleaner.fresh, state, files));
    DS_CHECK(sync_folder(cleaner.fresh));
    DS_CHECK(put_in_place(dir, tag, options));
    return write_durably(dir / kLatest, tag + "\n");
}

const SafetensorsFile* Checkpoint::file(std::string_view name) const {
    const auto at = files_.find(name);
    return at == files_.end() ? nullptr : &at->second;
}

Result<const TensorView*> Checkpoint::tensor(std::string_view file_name, std::string_view name) const {
    const SafetensorsFile* holder = file(file_name);
    if (!holder) return fail(Code::E_NOT_FOUND, "{}: has no file {}", folder_.string(), file_name);
    if (const TensorView* view = holder->find(name)) return view;
    return fail(Code::E_NOT_FOUND, "{}: has no tensor {}", (folder_ / file_name).string(), name);
}

Result<Checkpoint> Checkpoint::open_folder(const fs::path& folder, const std::string& tag, const Spread& spread) {
    const fs::path state_path = folder / kStateFile;
    std::error_code error;
    if (!fs::exists(state_path, error)) {
        if (fs::exists(folder / "mp_rank_00_model_states.pt", error)) {
            return fail(
                Code::E_UNSUPPORTED,
                "{}: is a checkpoint of pickles, which are never read; convert it with DeepSpeed's zero_to_fp32.py --safe_serialization",
                folder.string());
        }
        return fail(Code::E_NOT_FOUND, "{}: no such file; a checkpoint has one", state_path.string());
    }
    DS_TRY(const std::string text, read_file(state_path, kMaxStateBytes));
    DS_TRY(StateFile contents, parse_state(text, state_path.string()));
    Checkpoint result;
    for (const FileRecord& record : contents.files) {
        DS_TRY(SafetensorsFile file, open_verified(folder / record.name, record, spread));
        result.files_.emplace(record.name, std::move(file));
    }
    result.tag_ = tag;
    result.folder_ = folder;
    result.state_ = std::move(contents.state);
    return result;
}

Result<std::string> latest_tag(const fs::path& dir) {
    const fs::path path = dir / kLatest;
    Result<std::string> text = read_file(path, 4096);
    if (text.status().code() == Code::E_NOT_FOUND)
        return fail(Code::E_NOT_FOUND, "{}: no such file: no checkpoint was saved here", path.string());
    if (!text.ok()) return std::move(text).status();
    while (!text->empty() && (text->back() == '\n' || text->back() == '\r' || text->back() == ' ')) text->pop_back();
    if (!check_tag(*text).ok()) return fail(Code::E_CORRUPT, "{}: \"{}\" is not a tag", path.string(), shown(*text));
    return *text;
}

Result<Checkpoint> open_checkpoint(const fs::path& dir, const std::optional<std::string>& wanted, const Spread& spread) {
    std::string tag;
    if (wanted) {
        DS_CHECK(check_tag(*wanted));
        tag = *wanted;
    } else {
        DS_TRY(tag, latest_tag(dir));
    }
    // A saver may replace the folder while it is being read. The checksums refuse a mixture of two, and it is read again.
    constexpr int kTries = 100;
    for (int attempt = 1;; ++attempt) {
        DS_TRY(const Found found, find_folder(dir, tag));
        Result<Checkpoint> opened = Checkpoint::open_folder(found.folder, tag, spread);
        if (opened.ok() || attempt == kTries || identity_of(found.folder) == found.identity) return opened;
    }
}

}  // namespace ds
