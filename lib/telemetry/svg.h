// Small parts of drawings: escaped text, numbers for people, a scale with round ticks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ds::svg {

// Fit for text and for attributes in quotes. Bytes that are not UTF-8 and control characters become U+FFFD.
std::string escaped(std::string_view text);

std::string number(double value);       // "0.00125", "12.5", "1,200", "5e-5"
std::string bytes(double value);        // "12.5 MiB"
std::string duration_us(double value);  // "3.2 ms"
std::string coordinate(double value);   // at most two decimals, no trailing zeros

// Elements. Texts and titles are escaped here; a title is what hovering shows.
std::string line(std::string_view css_class, double x1, double y1, double x2, double y2);
std::string rect(std::string_view css_class, double x, double y, double width, double height, std::string_view title = {});
enum class Anchor { start, middle, end };
std::string text(double x, double y, Anchor anchor, std::string_view content, std::string_view css_class = {});  // y: of its middle
std::string open(double width, double height, std::string_view label);                                           // "<svg ...>"

// Maps values onto pixels.
struct Scale {
    double low = 0, high = 1, from = 0, to = 1;
    double operator()(double value) const { return from + (value - low) / (high - low) * (to - from); }
    double step(int about) const;  // distance of ticks, 1, 2 or 5 times a power of ten, for about so many of them
    std::vector<double> ticks(double step) const;
};

// A scale over the values, a little wider than they are; from zero where they come near it. Works for one value and for none.
Scale scale_over(double low, double high, double from, double to);

}  // namespace ds::svg
