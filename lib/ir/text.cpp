#include "ir/text.h"

#include <algorithm>
#include <cctype>

#include "base/json.h"
#include "ir/builder.h"
#include "ir/host_op.h"

namespace ds {
namespace {

constexpr std::string_view kKindWords[] = {"", "", "param", "shadow", "rounded", "grad"};
constexpr std::string_view kInitWords[] = {"zeros", "ones", "normal", "uniform", "sinusoid"};

bool is_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-' || c == '/'; }

// A host names its values as it likes: what is no plain name stands in quotes, as in JSON.
std::string written(const std::string& name) {
    const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), is_name);
    return plain ? name : Json(name).dump();
}

std::string name_of_value(const Graph& g, ValueId id) { return id == kNone ? "_" : "%" + written(g.value(id).name); }

std::string list(const Graph& g, const std::vector<ValueId>& ids) {
    std::string text;
    for (size_t i = 0; i < ids.size(); ++i) text += (i ? ", " : "") + name_of_value(g, ids[i]);
    return text;
}

std::string attributes(const Attrs& attrs) {
    const std::string text = attrs.text();
    return text.empty() ? "" : " {" + text + "}";
}

std::string declaration(const Graph& g, ValueId id) {
    const Value& v = g.value(id);
    std::string text;
    if (v.kind == Kind::param && !v.trainable) text = "frozen ";
    else if (v.kind != Kind::input) text = std::string(kKindWords[static_cast<size_t>(v.kind)]) + " ";
    text += name_of_value(g, id) + ": " + to_string(v.type);
    if (v.of != kNone) text += " of " + name_of_value(g, v.of);
    if (v.kind == Kind::param) {
        text += " " + std::string(kInitWords[static_cast<size_t>(v.init.type)]);
        if (v.init.type >= Init::Type::normal) text += fmt::format(" {}", v.init.scale);
        if (v.init.zero_row >= 0) text += fmt::format(" zero_row {}", v.init.zero_row);
    }
    return text;
}

// Reads the text form. The first failure is kept in `status`; readers after it return harmless values.
class Parser {
public:
    Parser(std::string_view text, std::string_view place, const std::function<const OpDef*(std::string_view)>& find)
        : text_(text), place_(place), find_(find), builder_(graph_) {}

    Result<Graph> run() {
        word("graph");
        graph_.name = name();
        symbol('(');
        if (!try_symbol(')')) {
            do operand();
            while (status_.ok() && try_symbol(','));
            symbol(')');
        }
        symbol('{');
        while (status_.ok() && !try_symbol('}')) statement();
        skip();
        if (status_.ok() && at_ != text_.size()) error("text after the graph's closing brace");
        DS_CHECK(status_);
        return std::move(graph_);
    }

private:
    void error(std::string_view what) {
        if (!status_.ok()) return;
        const auto before = text_.substr(0, std::min(at_, text_.size()));
        const auto line = 1 + std::count(before.begin(), before.end(), '\n');
        status_ = fail(Code::E_INVALID_ARGUMENT, "{}: line {}: {}", place_, line, what);
    }
    void skip() {
        while (at_ < text_.size() && (std::isspace(static_cast<unsigned char>(text_[at_])) || text_[at_] == '#')) {
            if (text_[at_] == '#')
                while (at_ < text_.size() && text_[at_] != '\n') ++at_;
            else ++at_;
        }
    }
    bool try_symbol(char c) {
        skip();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    void symbol(char c) {
        if (!try_symbol(c))
            error(fmt::format("'{}' expected, found {}", c, at_ < text_.size() ? fmt::format("'{}'", text_[at_]) : "the end"));
    }
    std::string name() {
        skip();
        const size_t begin = at_;
        if (at_ < text_.size() && text_[at_] == '"') return quoted();
        while (at_ < text_.size() && is_name(text_[at_])) ++at_;
        if (begin == at_) error("a name expected");
        return std::string(text_.substr(begin, at_ - begin));
    }
    std::string quoted() {
        const size_t begin = at_++;
        while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
        at_ = std::min(at_ + 1, text_.size());
        const Json name = Json::parse(text_.substr(begin, at_ - begin), nullptr, false);
        if (name.is_string() && !name.get_ref<const std::string&>().empty()) return name.get<std::string>();
        error("a name in quotes is a JSON string of one character or more");
        return "_";
    }
    bool try_word(std::string_view w) {
        skip();
        if (text_.substr(at_, w.size()) != w || (at_ + w.size() < text_.size() && is_name(text_[at_ + w.size()]))) return false;
        at_ += w.size();
        return true;
    }
    void word(std::string_view w) {
        if (!try_word(w)) error(fmt::format("'{}' expected", w));
    }
    double number() {
        const std::string digits = name();
        char* end = nullptr;
        const double value = std::strtod(digits.c_str(), &end);
        if (end == digits.c_str() || *end) error(fmt::format("a number expected, found '{}'", digits));
        return value;
    }
    ValueId value() {
        skip();
        if (try_symbol('_')) return kNone;
        symbol('%');
        const std::string wanted = name();
        const auto found = names_.find(wanted);
        if (found == names_.end()) {
            error(fmt::format("%{} is not defined before", wanted));
            return kNone;
        }
        return found->second;
    }
    Type type() {
        const std::string word = name();
        const auto dtype = dtype_named(word);
        if (!dtype) error(fmt::format("an element type expected, found '{}'", word));
        Type t{dtype.value_or(DType::f32), {}};
        symbol('[');
        if (try_symbol(']')) return t;
        do t.shape.push_back(dimension());
        while (status_.ok() && try_symbol(','));
        symbol(']');
        if (auto n = checked_elements(t.shape); !n.ok()) error(n.status().message());
        return t;
    }
    int64_t dimension() {
        int64_t d = 1;
        do {
            if (try_word("rows")) d *= kRows;
            else if (try_word("length")) d *= kLength;
            else {
                const double n = number();
                if (!(n >= 0 && n < 1e12)) error("a dimension must be between 0 and 1e12, or rows or length, which a batch brings");
                else d *= static_cast<int64_t>(n);
            }
        } while (status_.ok() && try_symbol('*'));
        return d;
    }
    void operand() {
        Value v{.kind = Kind::input};
        if (try_word("param")) v.kind = Kind::param;
        else if (try_word("frozen")) v.kind = Kind::param, v.trainable = false;
        else if (try_word("shadow")) v.kind = Kind::shadow;
        else if (try_word("rounded")) v.kind = Kind::rounded;
        else if (try_word("grad")) v.kind = Kind::grad;
        symbol('%');
        v.name = name();
        symbol(':');
        v.type = type();
        if (v.kind >= Kind::shadow && try_word("of")) v.of = value();
        if (v.kind == Kind::param) initialiser(v.init);
        if (v.kind == Kind::param && v.type.dtype != DType::f32) error(fmt::format("param %{} must be f32", v.name));
        define(v.name, graph_.add_value(v));
    }
    void initialiser(Init& init) {
        for (size_t i = 0; i < std::size(kInitWords); ++i)
            if (try_word(kInitWords[i])) {
                init.type = static_cast<Init::Type>(i);
                if (i >= 2) init.scale = number();
            }
        if (try_word("zero_row")) init.zero_row = static_cast<int64_t>(number());
    }
    void define(const std::string& name, ValueId id) {
        if (status_.ok() && !names_.emplace(name, id).second) error(fmt::format("%{} is defined twice", name));
    }
    void statement() {
        if (try_word("backward")) {
            symbol(':');
            builder_.mark_backward(true);
        } else if (try_word("weights")) {
            symbol(':');
            weights_ = true;
        } else if (try_word("output")) {
            std::string label = name();
            symbol('=');
            graph_.outputs.emplace_back(std::move(label), value());
        } else if (try_word("receive")) {
            graph_.received.push_back(crossing());
        } else if (try_word("send")) {
            graph_.sent.push_back(crossing());
        } else if (try_word("loss")) {
            symbol('=');
            graph_.loss = value();
        } else if (try_word("grad")) {
            const ValueId param = value();
            symbol('=');
            graph_.grads.emplace_back(param, value());
        } else node();
    }
    Crossing crossing() {
        Crossing c{.value = value()};
        c.differentiable = try_word("differentiable");
        if (try_word("gradient")) c.differentiable = true, c.gradient = value();
        return c;
    }
    void node() {
        skip();
        const size_t begin = at_;
        std::vector<std::string> results;
        do {
            symbol('%');
            results.push_back(name());
        } while (status_.ok() && try_symbol(','));
        symbol('=');
        const std::string op_name = name();
        if (!status_.ok()) return;
        const OpDef* op = find_ ? find_(op_name) : find_op(op_name);
        if (!op) return error(unknown_op(op_name));
        std::vector<ValueId> in;
        skip();
        while (status_.ok() && at_ < text_.size() && (text_[at_] == '%' || text_[at_] == '_')) {
            in.push_back(value());
            if (!try_symbol(',')) break;
            skip();
        }
        Attrs attrs(op->attrs, op->attrs->defaults());
        if (try_symbol('{')) attrs = attributes_of(*op);
        if (!status_.ok()) return;
        auto made = builder_.try_call(*op, std::move(in), std::move(attrs));
        if (!made.ok()) {
            at_ = begin;  // the line that the statement stands on
            return error(made.status().message());
        }
        if (made->size() != results.size()) return error(fmt::format("{} gives {} values, not {}", op_name, made->size(), results.size()));
        graph_.nodes.back().weights = weights_;
        for (size_t i = 0; i < results.size(); ++i) {
            graph_.value((*made)[i]).name = results[i];
            define(results[i], (*made)[i]);
        }
        if (try_symbol(':')) check_types(*made);
    }
    void check_types(const std::vector<ValueId>& ids) {
        for (size_t i = 0; i < ids.size(); ++i) {
            if (i) symbol(',');
            const Type written = type();
            if (status_.ok() && !(written == graph_.type(ids[i])))
                error(fmt::format("%{} is {}, not {}", graph_.value(ids[i]).name, to_string(graph_.type(ids[i])), to_string(written)));
        }
    }
    Attrs attributes_of(const OpDef& op) {
        Json object = Json::object();
        do {
            const std::string key = name();
            symbol('=');
            skip();
            const size_t begin = at_;
            for (int depth = 0; at_ < text_.size() && (depth > 0 || (text_[at_] != ',' && text_[at_] != '}')); ++at_)
                depth += (text_[at_] == '[') - (text_[at_] == ']');
            Json value = Json::parse(text_.substr(begin, at_ - begin), nullptr, false);
            if (value.is_discarded())
                error(fmt::format("attribute {}: '{}' is not a number, word in quotes, true, false or list", key,
                                  text_.substr(begin, at_ - begin)));
            object[key] = std::move(value);
        } while (status_.ok() && try_symbol(','));
        symbol('}');
        if (!status_.ok()) return {};
        auto parsed = op.attrs->parse(object);
        if (!parsed.ok()) {
            error(fmt::format("{}: {}", op.name, parsed.status().message()));
            return {};
        }
        return {op.attrs, std::move(parsed).value()};
    }

    std::string_view text_, place_;
    const std::function<const OpDef*(std::string_view)>& find_;
    size_t at_ = 0;
    Status status_;
    Graph graph_;
    Builder builder_;
    bool weights_ = false;
    std::map<std::string, ValueId> names_;
};

}  // namespace

std::string print(const Graph& g) {
    std::string text = "graph " + written(g.name) + "(";
    for (size_t i = 0; i < g.inputs.size(); ++i) text += (i ? ",\n    " : "") + declaration(g, g.inputs[i]);
    text += ") {\n";
    bool backward = false, weights = false;
    for (const Node& n : g.nodes) {
        if (n.backward && !backward) text += "backward:\n";
        if (n.weights && !weights) text += "weights:\n";
        backward |= n.backward;
        weights |= n.weights;
        text += "  " + list(g, n.out) + " = " + std::string(n.op->name) + (n.in.empty() ? "" : " ") + list(g, n.in) + attributes(n.attrs) +
                " : ";
        for (size_t i = 0; i < n.out.size(); ++i) text += (i ? ", " : "") + to_string(g.type(n.out[i]));
        text += "\n";
    }
    for (const auto& [name, id] : g.outputs) text += "  output " + written(name) + " = " + name_of_value(g, id) + "\n";
    const auto crossings = [&](const char* word, const std::vector<Crossing>& list) {
        for (const Crossing& c : list)
            text += fmt::format("  {} {}{}\n", word, name_of_value(g, c.value),
                                c.gradient != kNone ? " gradient " + name_of_value(g, c.gradient)
                                : c.differentiable  ? " differentiable"
                                                    : "");
    };
    crossings("receive", g.received);
    crossings("send", g.sent);
    if (g.loss != kNone) text += "  loss = " + name_of_value(g, g.loss) + "\n";
    for (const auto& [param, grad] : g.grads) text += "  grad " + name_of_value(g, param) + " = " + name_of_value(g, grad) + "\n";
    return text + "}\n";
}

Result<Graph> parse_graph(std::string_view text, std::string_view place, const std::function<const OpDef*(std::string_view)>& find) {
    return Parser(text, place, find).run();
}

}  // namespace ds
