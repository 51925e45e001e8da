#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "command.h"

namespace dsrt::cli {
namespace {

std::string scaled(double value, double step, const std::vector<const char*>& units) {
    size_t unit = 0;
    while (value >= step && unit + 1 < units.size()) value /= step, ++unit;
    char text[32];
    std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

}  // namespace

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    if (file) text << file.rdbuf();
    if (!file) throw std::runtime_error(path + ": cannot be read: " + std::strerror(errno));
    return text.str();
}

Json parse_config(const std::string& text_or_path, const std::string& name) {
    const size_t first = text_or_path.find_first_not_of(" \t\r\n");
    const bool is_text = first != std::string::npos && (text_or_path[first] == '{' || text_or_path[first] == '/') &&
                         text_or_path.find('{') != std::string::npos;
    const std::string text = is_text ? text_or_path : read_file(text_or_path);
    try {
        return Json::parse(text, nullptr, true, true);
    } catch (const Json::parse_error& error) { throw std::runtime_error((is_text ? name : text_or_path) + ": not JSON: " + error.what()); }
}

std::string size_text(double bytes) { return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB"}); }
std::string count_text(double count) { return scaled(count, 1000, {"", "k", "M", "G", "T", "P"}); }

std::string seconds_text(double seconds) {
    char text[32];
    std::snprintf(text, sizeof text, seconds < 1000 ? "%.3g s" : "%.0f s", seconds);
    return text;
}

void print(const Json& document) { std::puts(document.dump(2, ' ', false, Json::error_handler_t::replace).c_str()); }

void print_table(const std::vector<std::vector<std::string>>& rows, size_t right_from) {
    std::vector<size_t> width;
    for (const auto& row : rows)
        for (size_t i = 0; i < row.size(); ++i) {
            if (i == width.size()) width.push_back(0);
            width[i] = std::max(width[i], row[i].size());
        }
    for (const auto& row : rows) {
        std::string line;
        for (size_t i = 0; i < row.size(); ++i) {
            const std::string gap(width[i] - row[i].size(), ' ');
            line += (i ? "  " : "") + (i >= right_from ? gap + row[i] : row[i] + gap);
        }
        line.erase(line.find_last_not_of(' ') + 1);
        std::puts(line.c_str());
    }
}

}  // namespace dsrt::cli
