// Rendering: walks the parsed template. The first failure sticks; everything after it is skipped.
#include "data/jinja/jinja.h"

#include <algorithm>
#include <cmath>

#include "data/jinja/ast.h"
#include "data/jinja/builtins.h"
#include "data/options.h"

namespace ds {
namespace jinja {
namespace {

constexpr size_t kMaxSteps = 1'000'000;
constexpr size_t kBytesPerStep = 256;  // of what a builtin or operator reads and makes
constexpr int kMaxCalls = 40;          // of macros inside one another
constexpr int kMaxLevels = 800;        // of the calls of this renderer inside one another, which bounds the stack

// Bytes that a walk over a value reads, without what its elements hold.
size_t flat_bytes(const Value& v) {
    if (v.text()) return v.text()->size();
    return v.list() ? 4 * v.list()->size() : v.dict() ? v.dict()->items.size() : 0;
}
size_t made_bytes(const Value& v) { return v.list() ? sizeof(Value) * v.list()->size() : flat_bytes(v); }

// What searching x for the arguments may take.
size_t work(const Value& x, const Arguments& a) {
    size_t sought = 0;
    for (const Value& v : a.positions) sought += flat_bytes(v);
    for (const auto& [name, v] : a.names) sought += flat_bytes(v);
    return flat_bytes(x) * (1 + sought / 16) + sought;
}

// What a name that is not there is called in errors.
Undefined absent(const Value& key) { return {excerpt(key.str())}; }

using Kind = Expr::Kind;

class Renderer : public Scope {
public:
    explicit Renderer(const OrderedJson& variables) {
        frames_.emplace_back();
        for (const auto& [name, value] : variables.items()) frames_.back().set(name, Value::of(value));
        frames_.emplace_back();
    }

    Result<Rendered> run(const Block& body) {
        std::string out;
        render(body, out);
        DS_CHECK(status_);
        return Rendered{std::move(out), std::move(generated_)};
    }

    Result<Value> apply_filter(std::string_view name, const Value& x, const Arguments& a) override {
        const Level level(*this);
        DS_CHECK(charge(work(x, a)));
        DS_TRY(Value out, filter(name, x, a, *this));
        DS_CHECK(charge(made_bytes(out)));
        return out;
    }
    Result<Value> apply_test(std::string_view name, const Value& x, const Arguments& a) override {
        size_t compared = 0;
        for (const Value& v : a.positions) compared += v.extent().bytes;
        DS_CHECK(charge(work(x, a) + compared));
        return test(name, x, a, *this);
    }
    Status charge(size_t bytes) override {
        steps_ += bytes / kBytesPerStep;
        if (steps_ > kMaxSteps) return fail(Code::E_INVALID_ARGUMENT, "takes more than {} steps", kMaxSteps);
        if (levels_ > kMaxLevels) return fail(Code::E_INVALID_ARGUMENT, "nested deeper than {}", kMaxLevels);
        return ok();
    }
    Result<Value> member(const Value& of, std::string_view path) override {
        Value v = of;
        for (size_t at = 0; at <= path.size();) {
            const size_t end = std::min(path.find('.', at), path.size());
            v = item(v, Value(std::string(path.substr(at, end - at))), 0);
            at = end + 1;
        }
        return v;
    }

private:
    struct Level {
        explicit Level(Renderer& r) : renderer(r) { ++r.levels_; }
        ~Level() { --renderer.levels_; }
        Renderer& renderer;
    };

    bool failed() const { return !status_.ok(); }
    void wrong(int line, const Status& why) {
        if (status_.ok()) status_ = line ? Status(why.code(), fmt::format("line {}: {}", line, why.message())) : why;
    }
    void wrong(int line, std::string_view why) { wrong(line, fail(Code::E_INVALID_ARGUMENT, "{}", why)); }
    template <class T>
    T take(Result<T> result, int line) {
        if (result.ok()) return std::move(result).value();
        wrong(line, result.status());
        return {};
    }
    bool spend(size_t bytes, int line) {
        if (const Status s = charge(bytes); !s.ok()) wrong(line, s);
        return !failed();
    }
    bool step(int line) { return spend(kBytesPerStep, line); }

    const Value* find(std::string_view name, int line) {
        const auto look = [&](const Dict& frame) {
            spend(frame.items.size(), line);
            return frame.find(name);
        };
        for (size_t i = frames_.size(); i-- > first_frame_;)
            if (const Value* v = look(frames_[i])) return v;
        if (first_frame_ > 0)
            for (size_t i = 2; i-- > 0;)  // a macro sees the variables and the template's own names
                if (const Value* v = look(frames_[i])) return v;
        return nullptr;
    }

    enum class After { next, break_, continue_ };

    After render(const Block& block, std::string& out) {
        const Level level(*this);
        for (const Statement& s : block.statements) {
            if (!step(s.line)) return After::next;
            const After after = render(s, out);
            if (out.size() > kMaxBytes) wrong(s.line, fmt::format("makes more than {} bytes", kMaxBytes));
            if (failed() || after != After::next) return after;
        }
        return After::next;
    }

    After render(const Statement& s, std::string& out) {
        switch (s.kind) {
        case Statement::Kind::text: write(s.text, s.line, out); break;
        case Statement::Kind::output: {
            const Value v = evaluate(*s.value);
            if (spend(v.text() ? 0 : v.extent().bytes, s.line)) write(v.str(), s.line, out);
            break;
        }
        case Statement::Kind::if_:
            for (const auto& [condition, body] : s.cases)
                if (!condition || evaluate(*condition).truth()) return failed() ? After::next : render(body, out);
            break;
        case Statement::Kind::for_: loop(s, out); break;
        case Statement::Kind::set: assign(s, evaluate(*s.value)); break;
        case Statement::Kind::set_block: {
            std::string text;
            frames_.emplace_back();
            const After after = render(s.body, text);
            frames_.pop_back();
            assign(s, Value(std::move(text)));
            return after;
        }
        case Statement::Kind::macro: frames_.back().set(s.macro->name, Value(Function{s.macro->name, nullptr, s.macro.get()})); break;
        case Statement::Kind::generation: {
            const size_t begin = out.size();
            const After after = render(s.body, out);
            if (calls_ == 0) generated_.emplace_back(begin, out.size());
            return after;
        }
        case Statement::Kind::break_: return After::break_;
        case Statement::Kind::continue_: return After::continue_;
        }
        return After::next;
    }

    void write(const std::string& text, int line, std::string& out) {
        if (spend(text.size(), line)) out += text;
    }

    void assign(const Statement& s, const Value& value) {
        if (failed()) return;
        if (s.targets.size() == 1) return assign(s.targets[0], value, s.line);
        const List* parts = value.list();
        if (!parts || parts->size() != s.targets.size())
            return wrong(s.line, fmt::format("set needs {} values for {} names", s.targets.size(), s.targets.size()));
        for (size_t i = 0; i < parts->size(); ++i) assign(s.targets[i], (*parts)[i], s.line);
    }
    void assign(const std::string& target, const Value& value, int line) {
        const size_t dot = target.find('.');
        if (dot == target.npos) {
            if (spend(frames_.back().items.size(), line)) frames_.back().set(target, value);
            return;
        }
        const Value* holder = find(target.substr(0, dot), line);
        if (!holder || !holder->dict() || !holder->dict()->is_namespace)
            return wrong(line, fmt::format("set {}: {} is not a namespace", target, target.substr(0, dot)));
        // So no namespace comes to hold itself, and what holds one grows by one value's depth at most.
        if (value.extent().has_namespace)
            return wrong(line, fmt::format("set {}: a namespace can't be set to what holds a namespace", target));
        if (spend(holder->dict()->items.size(), line)) holder->dict()->set(target.substr(dot + 1), value);
    }

    void loop(const Statement& s, std::string& out) {
        const Value over = evaluate(*s.value);
        if (failed()) return;
        if (!spend(made_bytes(over), s.line)) return;
        auto all = elements_of(over);
        if (!all.ok()) return wrong(s.line, all.status());
        List chosen;
        for (Value& v : *all) {
            if (s.condition) {
                frames_.emplace_back();
                bind(s, v);
                const bool keep = evaluate(*s.condition).truth();
                frames_.pop_back();
                if (failed()) return;
                if (!keep) continue;
            }
            chosen.push_back(std::move(v));
        }
        if (chosen.empty()) {
            render(s.otherwise, out);
            return;
        }
        for (size_t i = 0; i < chosen.size() && step(s.line); ++i) {
            frames_.emplace_back();
            frames_.back().set("loop", about(chosen, i));
            bind(s, chosen[i]);
            const After after = render(s.body, out);
            frames_.pop_back();
            if (after == After::break_) break;
        }
    }
    void bind(const Statement& s, const Value& v) {
        if (s.targets.size() == 1) return frames_.back().set(s.targets[0], v);
        if (!v.list() || v.list()->size() != s.targets.size())
            return wrong(s.line, fmt::format("an element does not have the {} parts that the loop names", s.targets.size()));
        for (size_t i = 0; i < s.targets.size(); ++i) frames_.back().set(s.targets[i], (*v.list())[i]);
    }
    static Value about(const List& list, size_t i) {
        const auto n = static_cast<int64_t>(list.size()), at = static_cast<int64_t>(i);
        Dict loop;
        loop.items = {{"index", at + 1},
                      {"index0", at},
                      {"revindex", n - at},
                      {"revindex0", n - at - 1},
                      {"first", at == 0},
                      {"last", at == n - 1},
                      {"length", n},
                      {"previtem", i > 0 ? list[i - 1] : Value(Undefined{"loop.previtem"})},
                      {"nextitem", i + 1 < list.size() ? list[i + 1] : Value(Undefined{"loop.nextitem"})}};
        return Value(std::move(loop));
    }

    Value evaluate(const Expr& e) {
        const Level level(*this);
        if (!step(e.line)) return {};
        Value v = compute(e);
        if (v.extent().bytes > kMaxBytes) wrong(e.line, fmt::format("a {} of more than {} bytes", v.kind(), kMaxBytes));
        if (v.extent().depth > kMaxDepth) wrong(e.line, fmt::format("a {} nested deeper than {}", v.kind(), kMaxDepth));
        return failed() ? Value() : v;
    }
    Value compute(const Expr& e) {
        switch (e.kind) {
        case Kind::literal: return e.literal;
        case Kind::name: {
            if (const Value* v = find(e.text, e.line)) return *v;
            if (is_function(e.text)) return Function{e.text, nullptr, nullptr};
            return Undefined{e.text};
        }
        case Kind::list: {
            List list;
            for (const ExprPtr& x : e.more) list.push_back(evaluate(*x));
            return list;
        }
        case Kind::dict: return dict(e);
        case Kind::member: return attribute(evaluate(*e.operand), e.text, e.line);
        case Kind::index: {
            const Value of = evaluate(*e.operand);
            return item(of, evaluate(*e.second), e.line);
        }
        case Kind::slice: return slice(e);
        case Kind::call: return call(e);
        case Kind::filter: {
            const Value x = evaluate(*e.operand);
            const Arguments a = arguments(e);
            return failed() ? Value() : take(apply_filter(e.text, x, a), e.line);
        }
        case Kind::test: {
            const Value x = evaluate(*e.operand);
            const Arguments a = arguments(e);
            return failed() ? Value() : Value(take(apply_test(e.text, x, a), e.line).truth() != e.negated);
        }
        case Kind::negative: return arithmetic("-", int64_t{0}, evaluate(*e.operand), e.line);
        case Kind::positive: return arithmetic("+", int64_t{0}, evaluate(*e.operand), e.line);
        case Kind::not_: return !evaluate(*e.operand).truth();
        case Kind::binary: {
            const Value a = evaluate(*e.operand);
            return arithmetic(e.text, a, evaluate(*e.second), e.line);
        }
        case Kind::both: {
            Value a = evaluate(*e.operand);
            return a.truth() ? evaluate(*e.second) : a;
        }
        case Kind::either: {
            Value a = evaluate(*e.operand);
            return a.truth() ? a : evaluate(*e.second);
        }
        case Kind::compare: return comparison(e);
        case Kind::conditional:
            if (evaluate(*e.second).truth()) return evaluate(*e.operand);
            return e.third ? evaluate(*e.third) : Value(Undefined{"the value of an if without else"});
        }
        return {};
    }

    Value dict(const Expr& e) {
        Dict out;
        for (size_t i = 0; i + 1 < e.more.size(); i += 2) {
            const Value key = evaluate(*e.more[i]);
            if (!key.text()) wrong(e.line, fmt::format("a mapping's key must be a string, not {}", key.kind()));
            else if (spend(out.items.size(), e.line)) out.set(*key.text(), evaluate(*e.more[i + 1]));
        }
        return out;
    }

    // x.name: a method first, then an element.
    Value attribute(const Value& of, const std::string& name, int line) {
        if (is_method(of, name)) return Function{name, std::make_shared<const Value>(of), nullptr};
        return item(of, Value(name), line);
    }
    Value item(const Value& of, const Value& key, int line) {
        if (of.undefined()) {
            wrong(line, fmt::format("{} is not defined, so it has no {}", of.as<Undefined>()->name, absent(key).name));
            return {};
        }
        if (!spend(of.list() ? 0 : flat_bytes(of), line)) return {};
        if (const Dict* d = of.dict()) {
            const Value* found = key.text() ? d->find(*key.text()) : nullptr;
            return found ? *found : Value(absent(key));
        }
        if (key.is_integer() && (of.list() || of.text())) {
            const auto length = length_of(of);
            const int64_t i = key.integer() < 0 ? key.integer() + *length : key.integer();
            if (i < 0 || i >= *length) return Undefined{fmt::format("element {}", key.integer())};
            if (of.list()) return (*of.list())[static_cast<size_t>(i)];
            const std::u32string points = code_points(*of.text());
            return utf8(std::u32string_view(points).substr(static_cast<size_t>(i), 1));
        }
        if (key.text() && is_method(of, *key.text())) return Function{*key.text(), std::make_shared<const Value>(of), nullptr};
        return absent(key);
    }

    Value slice(const Expr& e) {
        const Value of = evaluate(*e.operand), begin = e.second ? evaluate(*e.second) : Value(),
                    end = e.third ? evaluate(*e.third) : Value(), by = e.fourth ? evaluate(*e.fourth) : Value();
        if (failed()) return {};
        if (!of.list() && !of.text()) {
            wrong(e.line, fmt::format("{} can't be sliced", of.kind()));
            return {};
        }
        for (const Value* v : {&begin, &end, &by})
            if (!v->none() && !v->is_integer()) {
                wrong(e.line, fmt::format("the bounds of a slice must be integers, not {}", v->kind()));
                return {};
            }
        if (!spend(made_bytes(of), e.line)) return {};
        const std::u32string points = of.text() ? code_points(*of.text()) : std::u32string();
        const auto n = static_cast<int64_t>(of.text() ? points.size() : of.list()->size());
        const int64_t step = by.none() ? 1 : by.integer();
        if (step == 0) {
            wrong(e.line, "the step of a slice must not be 0");
            return {};
        }
        const auto bound = [&](const Value& v, int64_t otherwise) {
            if (v.none()) return otherwise;
            const int64_t i = v.integer() < 0 ? v.integer() + n : v.integer();
            return step > 0 ? std::clamp<int64_t>(i, 0, n) : std::clamp<int64_t>(i, -1, n - 1);
        };
        const int64_t from = bound(begin, step > 0 ? 0 : n - 1), to = bound(end, step > 0 ? n : -1);
        List list;
        std::u32string text;
        for (int64_t i = from; step > 0 ? i < to : i > to; i += std::clamp<int64_t>(step, -n - 1, n + 1)) {
            if (of.text()) text += points[static_cast<size_t>(i)];
            else list.push_back((*of.list())[static_cast<size_t>(i)]);
        }
        return of.text() ? Value(utf8(text)) : Value(std::move(list));
    }

    Arguments arguments(const Expr& e) {
        Arguments a;
        for (const Argument& given : e.arguments) {
            Value v = evaluate(*given.value);
            if (given.name.empty()) a.positions.push_back(std::move(v));
            else a.names.emplace_back(given.name, std::move(v));
        }
        return a;
    }

    Value call(const Expr& e) {
        const Value target = evaluate(*e.operand);
        const Arguments a = arguments(e);
        if (failed()) return {};
        const Function* f = target.as<Function>();
        if (!f) {
            wrong(e.line, target.undefined() ? fmt::format("there is no function {}", target.as<Undefined>()->name)
                                             : fmt::format("{} can't be called", target.kind()));
            return {};
        }
        if (f->macro) return call_macro(*f->macro, a, e.line);
        // Methods of lists compare their elements.
        if (f->self && !spend(work(*f->self, a) + (f->self->list() ? f->self->extent().bytes : 0), e.line)) return {};
        Value out = take(f->self ? call_method(*f->self, f->name, a) : call_function(f->name, a), e.line);
        spend(made_bytes(out), e.line);
        return out;
    }

    Value call_macro(const Macro& macro, const Arguments& a, int line) {
        if (calls_ == kMaxCalls) {
            wrong(line, fmt::format("macros call one another deeper than {}", kMaxCalls));
            return {};
        }
        std::vector<std::string_view> parameters;
        for (const auto& [name, otherwise] : macro.parameters) parameters.push_back(name);
        const Given given = take(jinja::bind(macro.name, parameters, 0, a), line);
        if (failed()) return {};
        const size_t outer = std::exchange(first_frame_, frames_.size());
        frames_.emplace_back();
        for (size_t i = 0; i < macro.parameters.size(); ++i) {
            const auto& [name, otherwise] = macro.parameters[i];
            const Value* value = given.find(i);
            frames_.back().set(name, value ? *value : otherwise ? evaluate(*otherwise) : Value(Undefined{name}));
        }
        std::string out;
        ++calls_;
        render(macro.body, out);
        --calls_;
        frames_.pop_back();
        first_frame_ = outer;
        return out;
    }

    Value comparison(const Expr& e) {
        Value a = evaluate(*e.operand);
        for (size_t i = 0; i < e.more.size() && !failed(); ++i) {
            Value b = evaluate(*e.more[i]);
            if (failed() || !holds(e.operators[i], a, b, e.line)) return false;
            a = std::move(b);
        }
        return true;
    }
    bool holds(const std::string& op, const Value& a, const Value& b, int line) {
        // Searching a list compares with all of it, other operators see no more than the smaller side.
        const size_t seen = op.ends_with("in") && b.list() ? b.extent().bytes : std::min(a.extent().bytes, b.extent().bytes);
        if (!spend(op.ends_with("in") && b.text() ? work(b, {{a}, {}}) : seen, line)) return false;
        if (op == "==") return equal(a, b);
        if (op == "!=") return !equal(a, b);
        if (op == "in" || op == "not in") {
            const auto found = contains(b, a);
            if (!found.ok()) wrong(line, found.status());
            return found.ok() && *found == (op == "in");
        }
        const auto order = compare(a, b);
        if (!order.ok()) {
            wrong(line, order.status());
            return false;
        }
        return op == "<" ? *order < 0 : op == "<=" ? *order <= 0 : op == ">" ? *order > 0 : *order >= 0;
    }

    Value arithmetic(const std::string& op, const Value& a, const Value& b, int line) {
        if (failed()) return {};
        if (!spend((made_bytes(a) + made_bytes(b)) / 16, line)) return {};
        if (op == "~") return spend(a.extent().bytes / 16 + b.extent().bytes / 16, line) ? joined(a.str() + b.str(), line) : Value();
        if (op == "+" && a.text() && b.text()) return joined(*a.text() + *b.text(), line);
        if (op == "+" && a.list() && b.list()) {
            List both = *a.list();
            both.insert(both.end(), b.list()->begin(), b.list()->end());
            if (both.size() > kMaxElements) wrong(line, fmt::format("a list of more than {} elements", kMaxElements));
            return both;
        }
        if (op == "*" && a.text() && b.is_integer()) return repeated(*a.text(), b.integer(), line);
        if (op == "*" && b.text() && a.is_integer()) return repeated(*b.text(), a.integer(), line);
        if (!a.is_number() || !b.is_number()) {
            const Value& odd = a.is_number() || a.text() || a.list() ? b : a;
            wrong(line, odd.undefined() ? fmt::format("{} is not defined", odd.as<Undefined>()->name)
                                        : fmt::format("{} {} {} is not possible", a.kind(), op, b.kind()));
            return {};
        }
        return a.is_integer() && b.is_integer() && op != "/" ? integers(op, a.integer(), b.integer(), line)
                                                             : reals(op, a.number(), b.number(), line);
    }
    Value joined(std::string text, int line) {
        if (text.size() > kMaxBytes) wrong(line, fmt::format("a string of more than {} bytes", kMaxBytes));
        return text;
    }
    Value repeated(const std::string& text, int64_t times, int line) {
        std::string out;
        if (times <= 0 || text.empty()) return out;
        if (text.size() > kMaxBytes / static_cast<size_t>(times)) wrong(line, fmt::format("a string of more than {} bytes", kMaxBytes));
        else spend(text.size() * static_cast<size_t>(times), line);
        for (int64_t i = 0; i < times && !failed(); ++i) out += text;
        return out;
    }
    Value integers(const std::string& op, int64_t a, int64_t b, int line) {
        int64_t out = 0;
        bool overflow = false;
        if (op == "+") overflow = __builtin_add_overflow(a, b, &out);
        else if (op == "-") overflow = __builtin_sub_overflow(a, b, &out);
        else if (op == "*") overflow = __builtin_mul_overflow(a, b, &out);
        else if (op == "**") return power(a, b, line);
        else if (b == 0) wrong(line, "division by zero");
        else if (b == -1) overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, a, &out);
        else {  // towards minus infinity, as Python divides
            const int64_t quotient = a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
            out = op == "//" ? quotient : a - quotient * b;
        }
        if (overflow) wrong(line, fmt::format("{} {} {} is too large", a, op, b));
        return out;
    }
    Value power(int64_t a, int64_t b, int line) {
        if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
        int64_t out = 1;
        for (int64_t i = 0; i < b && out != 0 && !failed(); ++i) {
            if (a == 1 || (a == -1 && b % 2 == 0)) return int64_t{1};
            if (a == -1) return int64_t{-1};
            if (__builtin_mul_overflow(out, a, &out)) wrong(line, fmt::format("{} ** {} is too large", a, b));
        }
        return out;
    }
    Value reals(const std::string& op, double a, double b, int line) {
        if (op == "+") return a + b;
        if (op == "-") return a - b;
        if (op == "*") return a * b;
        if (op == "**") return std::pow(a, b);
        if (b == 0) {
            wrong(line, "division by zero");
            return {};
        }
        if (op == "/") return a / b;
        const double quotient = std::floor(a / b);
        return op == "//" ? quotient : a - quotient * b;
    }

    std::vector<Dict> frames_;  // the variables, the template's own names, then one a loop, block and macro
    size_t first_frame_ = 0;    // of the macro that runs
    size_t steps_ = 0;
    int calls_ = 0, levels_ = 0;
    Status status_;
    std::vector<std::pair<size_t, size_t>> generated_;
};

}  // namespace
}  // namespace jinja

Result<JinjaTemplate> JinjaTemplate::parse(std::string_view text, std::string_view place) {
    constexpr size_t most = size_t{1} << 20;
    if (text.size() > most)
        return fail(Code::E_UNSUPPORTED, "{}: a template of {} bytes; at most {} are accepted", place, text.size(), most);
    auto body = jinja::parse_template(text);
    if (!body.ok()) return std::move(std::move(body).status()).within(place);
    JinjaTemplate out;
    out.body_ = std::make_shared<const jinja::Block>(std::move(body).value());
    out.place_ = place;
    return out;
}

Result<Rendered> JinjaTemplate::render(const OrderedJson& variables) const {
    auto rendered = jinja::Renderer(variables).run(*body_);
    if (!rendered.ok()) return std::move(std::move(rendered).status()).within(place_);
    return rendered;
}

}  // namespace ds
