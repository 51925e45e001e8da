// Text to ids and back.
#include <charconv>
#include <iostream>
#include <limits>

#include "../command.h"

namespace dsrt::cli {
namespace {

struct Options {
    std::string path;
    std::vector<std::string> texts;
    bool decode = false, plain = false;
};

std::vector<std::string> lines_of(std::istream& in) {
    std::vector<std::string> lines;
    for (std::string text; std::getline(in, text);) lines.push_back(text);
    return lines;
}

std::vector<int32_t> ids_of(const std::string& text) {
    std::vector<int32_t> ids;
    std::istringstream in(text);
    for (std::string word; in >> word;) {
        int32_t id = 0;
        const char* end = word.data() + word.size();
        if (const auto read = std::from_chars(word.data(), end, id); read.ec != std::errc() || read.ptr != end || id < 0)
            throw std::runtime_error("--decode: \"" + word + "\" is not a token id, 0 to " +
                                     std::to_string(std::numeric_limits<int32_t>::max()));
        ids.push_back(id);
    }
    return ids;
}

void show(const Tokenizer& tokenizer, const Options& o, const std::string& text, Json* all) {
    if (o.decode) {
        const std::string decoded = tokenizer.decode(ids_of(text), false);
        if (all) all->push_back({{"text", decoded}});
        else std::puts(decoded.c_str());
        return;
    }
    const Encoding e = tokenizer.encode(text, {}, !o.plain);
    if (all) {
        Json offsets = Json::array();
        for (const auto& [begin, end] : e.offsets) offsets.push_back({begin, end});
        all->push_back({{"text", text}, {"ids", e.ids}, {"type_ids", e.type_ids}, {"offsets", offsets}});
        return;
    }
    std::string out;
    for (const int32_t id : e.ids) out += (out.empty() ? "" : " ") + std::to_string(id);
    std::puts(out.c_str());
}

}  // namespace

void tokenize(CommandLine& line) {
    auto* sub = line.command(
        "tokenize", "turn text into token ids, or ids into text",
        "  dsrt tokenize gpt2 'Hello there'\n  dsrt tokenize gpt2 < book.txt | wc -w\n  dsrt tokenize gpt2 --decode '15496 612'");
    auto o = std::make_shared<Options>();
    sub->add_option("tokenizer", o->path, "tokenizer.json, or a folder that holds one (or vocab.txt, spiece.model)")->required();
    sub->add_option("text", o->texts, "texts; none: one a line of standard input");
    sub->add_flag("--decode", o->decode, "the texts are token ids");
    sub->add_flag("--plain", o->plain, "add no special tokens");
    line.on(sub, [&line, o] {
        const Tokenizer tokenizer(o->path);
        Json all = Json::array();
        for (const std::string& text : o->texts.empty() ? lines_of(std::cin) : o->texts)
            show(tokenizer, *o, text, line.json ? &all : nullptr);
        if (line.json) print(all);
        return Exit::done;
    });
}

}  // namespace dsrt::cli
