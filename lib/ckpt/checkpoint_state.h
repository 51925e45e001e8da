// state.json of a checkpoint: its text and its checks.
//
//   {"xxh3_128": "<32 hexadecimal digits>",        over every byte after this line
//    "format": "dsrt-checkpoint", "version": 1, "files": [{"name", "bytes", "xxh3_128", "piece_bytes", "pieces"}], "state": {...}}
//
// pieces: the checksums of each piece_bytes of a large file, so that threads can share the reading.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace ds {

inline constexpr int64_t kCheckpointVersion = 1;
inline constexpr const char* kStateFile = "state.json";

struct FileRecord {
    std::string name;
    uint64_t bytes = 0;
    std::string checksum;
    uint64_t piece_bytes = 0;
    std::vector<std::string> pieces = {};  // none: only the whole has a checksum
};

struct StateFile {
    Json state;
    std::vector<FileRecord> files;
};

Result<std::string> state_text(const StateFile& contents);
Result<StateFile> parse_state(std::string_view text, const std::string& place);

}  // namespace ds
