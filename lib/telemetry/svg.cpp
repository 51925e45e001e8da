#include "telemetry/svg.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <cmath>

namespace ds::svg {
namespace {

std::string trimmed(std::string text) {
    if (text.find('.') == text.npos) return text;
    while (text.back() == '0') text.pop_back();
    if (text.back() == '.') text.pop_back();
    return text == "-0" ? "0" : text;
}

std::string with_commas(std::string digits) {
    const size_t first = digits.starts_with('-') ? 1 : 0;
    for (size_t end = std::min(digits.find('.'), digits.size()); end > first + 3;) digits.insert(end -= 3, 1, ',');
    return digits;
}

}  // namespace

std::string escaped(std::string_view text) {
    std::string result;
    const auto* p = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
    for (size_t at = 0; at < text.size();) {
        utf8proc_int32_t code = -1;
        const utf8proc_ssize_t n = utf8proc_iterate(p + at, static_cast<utf8proc_ssize_t>(text.size() - at), &code);
        const bool printable = n > 0 && (code >= 0x20 || code == '\n' || code == '\t') && code != 0x7f && code != 0xfffe && code != 0xffff;
        if (code == '&') result += "&amp;";
        else if (code == '<') result += "&lt;";
        else if (code == '>') result += "&gt;";
        else if (code == '"') result += "&quot;";
        else if (code == '\'') result += "&#39;";
        else if (printable) result += text.substr(at, static_cast<size_t>(n));
        else result += "\xef\xbf\xbd";
        at += n > 0 ? static_cast<size_t>(n) : 1;
    }
    return result;
}

std::string number(double value) {
    if (!std::isfinite(value)) return fmt::format("{}", value);
    const double size = std::fabs(value);
    if (size >= 1e9 || (size < 1e-3 && size > 0)) {
        const std::string text = fmt::format("{:.3e}", value);  // 5.000e-05
        const size_t e = text.find('e');
        return trimmed(text.substr(0, e)) + fmt::format("e{}", std::stoi(text.substr(e + 1)));
    }
    const int decimals = size >= 1000 ? (size < 1e5 ? 1 : 0) : size >= 100 ? 2 : size >= 1 ? 3 : 5;
    return with_commas(trimmed(fmt::format("{:.{}f}", value, decimals)));
}

std::string bytes(double value) {
    constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (std::fabs(value) >= 1024 && unit < 4) value /= 1024, ++unit;
    return trimmed(fmt::format("{:.{}f}", value, unit == 0 ? 0 : value >= 100 ? 0 : 1)) + " " + kUnits[unit];
}

std::string duration_us(double value) {
    if (value >= 1e6) return trimmed(fmt::format("{:.2f}", value / 1e6)) + " s";
    if (value >= 1e3) return trimmed(fmt::format("{:.2f}", value / 1e3)) + " ms";
    return trimmed(fmt::format("{:.1f}", value)) + " \xc2\xb5s";
}

std::string coordinate(double value) { return std::isfinite(value) ? trimmed(fmt::format("{:.2f}", value)) : "0"; }

std::string line(std::string_view css_class, double x1, double y1, double x2, double y2) {
    return fmt::format("<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>\n", css_class, coordinate(x1), coordinate(y1),
                       coordinate(x2), coordinate(y2));
}

std::string rect(std::string_view css_class, double x, double y, double width, double height, std::string_view title) {
    const std::string head = fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", css_class, coordinate(x),
                                         coordinate(y), coordinate(width), coordinate(height));
    return title.empty() ? head + "/>\n" : fmt::format("{}><title>{}</title></rect>\n", head, escaped(title));
}

std::string text(double x, double y, Anchor anchor, std::string_view content, std::string_view css_class) {
    constexpr const char* kAnchors[] = {"start", "middle", "end"};
    return fmt::format("<text class=\"{}\" x=\"{}\" y=\"{}\" dy=\"0.34em\" text-anchor=\"{}\">{}</text>\n", css_class, coordinate(x),
                       coordinate(y), kAnchors[static_cast<int>(anchor)], escaped(content));
}

std::string open(double width, double height, std::string_view label) {
    return fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", coordinate(width), coordinate(height),
                       escaped(label));
}

double Scale::step(int about) const {
    const double rough = (high - low) / about, power = std::pow(10, std::floor(std::log10(rough)));
    for (const double factor : {1.0, 2.0, 5.0})
        if (factor * power >= rough * 0.999) return factor * power;
    return 10 * power;
}

std::vector<double> Scale::ticks(double distance) const {
    std::vector<double> ticks;
    const double first = std::ceil(low / distance - 1e-9);
    for (int i = 0; i < 100 && (first + i) * distance <= high + 1e-9 * distance; ++i) ticks.push_back((first + i) * distance);
    return ticks;
}

Scale scale_over(double low, double high, double from, double to) {
    if (!(low <= high) || !std::isfinite(low) || !std::isfinite(high)) low = 0, high = 1;
    if (high - low < 1e-12 * std::max(std::fabs(low), std::fabs(high)) || low == high) {
        const double room = low == 0 ? 1 : std::fabs(low) / 2;
        low -= room, high += room;
    }
    const double room = (high - low) * 0.06;
    const bool near_zero = low >= 0 && low < 0.4 * high;
    return {near_zero ? 0 : low - room, high + room, from, to};
}

}  // namespace ds::svg
