// A classifier that learns while it serves: an HTTP service that holds an engine, answers classifications, and trains on examples posted to
// it.
//
//   service MODEL [--tokenizer PATH] [--port 8080] [--save DIR] [--config JSON]
//   POST /classify  {"texts": ["...", ...]}                          -> {"classes": [1, ...], "probabilities": [[...], ...]}
//   POST /examples  {"examples": [{"text": "...", "label": 1}, ...]}  -> {"accepted": 2, "waiting": 5}
//   GET  /metrics   numbers as JSON        GET /  a live page         POST /save  a checkpoint now
//
// One thread owns the engine; requests are jobs for it, classifications before training. SIGINT and SIGTERM finish what runs, save, and
// end.
#include <dsrt/dsrt.hpp>

#include <httplib.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <deque>
#include <future>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "page.h"

namespace {

using Json = nlohmann::json;

constexpr size_t kMaxTexts = 256, kMaxWaiting = 10000, kMaxTextBytes = 20000, kRowsAStep = 16;

struct Example {
    std::string text;
    int32_t label;
};
struct BadRequest : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Settings {
    std::string model, tokenizer, save, config = "{}";
    int port = 8080;
};

class Service {
public:
    explicit Service(const Settings& s) : settings_(s), tokenizer_(s.tokenizer), engine_(engine_config(s)), worker_([this] { work(); }) {
        const Json model = Json::parse(engine_.get("model_config"));
        labels_ = model.contains("id2label") ? static_cast<int>(model["id2label"].size()) : model.value("num_labels", 2);
    }
    ~Service() { stop(); }

    Json classify(std::vector<std::string> texts) {
        return run([this, texts = std::move(texts)] {
            engine_.eval_only(tokenizer_.encode_batch(texts, {}, R"({"truncation": true, "max_length": 128})"));
            const dsrt::Tensor logits = engine_.output("logits");
            const auto values = logits.read<float>();
            const auto classes = static_cast<size_t>(logits.shape()[1]);
            Json answer{{"classes", Json::array()}, {"probabilities", Json::array()}};
            for (size_t row = 0; row < texts.size(); ++row) {
                std::vector<double> p(values.begin() + static_cast<ptrdiff_t>(row * classes),
                                      values.begin() + static_cast<ptrdiff_t>((row + 1) * classes));
                const double top = *std::max_element(p.begin(), p.end());
                double sum = 0;
                for (double& x : p) sum += x = std::exp(x - top);
                for (double& x : p) x /= sum;
                answer["classes"].push_back(std::max_element(p.begin(), p.end()) - p.begin());
                answer["probabilities"].push_back(p);
            }
            ++classified_;
            return answer;
        });
    }

    Json learn(std::vector<Example> examples) {
        const std::lock_guard lock(mutex_);
        if (waiting_.size() + examples.size() > kMaxWaiting) throw BadRequest("too many examples wait already; try again later");
        const size_t n = examples.size();
        for (Example& e : examples) waiting_.push_back(std::move(e));
        wake_.notify_one();
        return {{"accepted", n}, {"waiting", waiting_.size()}};
    }

    Json save() {
        if (settings_.save.empty()) throw BadRequest("the service was started without --save");
        return run([this] {
            engine_.save(settings_.save);
            return Json{{"folder", settings_.save}, {"step", engine_.metric("global_steps")}};
        });
    }

    // ds_metric may be called by any thread, whatever the engine does.
    Json metrics() const {
        Json out{{"loss", nullptr}};
        for (const char* name : {"loss", "lr", "global_steps", "tokens_per_second", "peak_bytes"}) {
            const double value = engine_.metric(name);
            out[name] = std::isfinite(value) ? Json(value) : Json();
        }
        const std::lock_guard lock(mutex_);
        out["waiting"] = waiting_.size();
        out["classified"] = classified_.load();
        out["failed_steps"] = failed_steps_;
        out["labels"] = labels_;
        out["curve"] = curve_;
        return out;
    }

    int labels() const { return labels_; }

    void stop() {
        {
            const std::lock_guard lock(mutex_);
            if (stopping_) return;
            stopping_ = true;
        }
        wake_.notify_one();
        worker_.join();
        if (!settings_.save.empty() && engine_.metric("global_steps") > 0) engine_.save(settings_.save);
    }

private:
    static std::string engine_config(const Settings& s) {
        Json config{{"model", s.model}, {"train_batch_size", kRowsAStep}, {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-4}}}}}};
        if (s.model.find('{') != std::string::npos) config["model"] = Json::parse(s.model);
        config.update(Json::parse(s.config));
        return config.dump();
    }

    Json run(std::function<Json()> job) {
        auto task = std::make_shared<std::packaged_task<Json()>>(std::move(job));
        auto result = task->get_future();
        {
            const std::lock_guard lock(mutex_);
            if (stopping_) throw BadRequest("the service is ending");
            jobs_.push_back([task] { (*task)(); });
        }
        wake_.notify_one();
        return result.get();
    }

    void work() {
        for (;;) {
            std::function<void()> job;
            std::vector<Example> examples;
            {
                std::unique_lock lock(mutex_);
                wake_.wait(lock, [&] { return stopping_ || !jobs_.empty() || !waiting_.empty(); });
                if (!jobs_.empty()) job = std::move(jobs_.front()), jobs_.pop_front();
                else if (stopping_) return;
                else
                    while (!waiting_.empty() && examples.size() < kRowsAStep)
                        examples.push_back(std::move(waiting_.front())), waiting_.pop_front();
            }
            if (job) job();  // a packaged task: what it throws goes to who waits for it
            else step(examples);
        }
    }

    void step(const std::vector<Example>& examples) {
        std::vector<std::string> texts;
        std::vector<int32_t> labels;
        for (const Example& e : examples) texts.push_back(e.text), labels.push_back(e.label);
        try {
            dsrt::Batch batch = tokenizer_.encode_batch(texts, {}, R"({"truncation": true, "max_length": 128})");
            batch.set("labels", {static_cast<int64_t>(labels.size())}, labels);
            const float loss = engine_.forward(batch);
            engine_.backward();
            engine_.step();
            const std::lock_guard lock(mutex_);
            curve_.push_back(loss);
            if (curve_.size() > 500) curve_.erase(curve_.begin());
        } catch (const std::exception& error) {
            std::fprintf(stderr, "service: a training step failed: %s\n", error.what());
            const std::lock_guard lock(mutex_);
            ++failed_steps_;
        }
    }

    const Settings settings_;
    const dsrt::Tokenizer tokenizer_;
    dsrt::Engine engine_;
    int labels_ = 2;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> jobs_;
    std::deque<Example> waiting_;
    std::vector<float> curve_;
    std::atomic<int64_t> classified_{0};
    int64_t failed_steps_ = 0;
    bool stopping_ = false;
    std::thread worker_;  // last: it uses all of the above
};

std::string text_of(const Json& value, const char* what) {
    if (!value.is_string()) throw BadRequest(std::string(what) + " must be a text");
    std::string text = value.get<std::string>();
    if (text.empty() || text.size() > kMaxTextBytes)
        throw BadRequest(std::string(what) + " must have 1 to " + std::to_string(kMaxTextBytes) + " bytes");
    return text;
}

const Json& list_of(const Json& body, const char* key) {
    if (!body.is_object() || !body.contains(key) || !body[key].is_array() || body[key].empty() || body[key].size() > kMaxTexts)
        throw BadRequest(std::string("the body must be {\"") + key + "\": [...]} with 1 to " + std::to_string(kMaxTexts) + " elements");
    return body[key];
}

Json classify(Service& service, const Json& body) {
    std::vector<std::string> texts;
    for (const Json& text : list_of(body, "texts")) texts.push_back(text_of(text, "a text"));
    return service.classify(std::move(texts));
}

Json learn(Service& service, const Json& body) {
    std::vector<Example> examples;
    for (const Json& e : list_of(body, "examples")) {
        const Json label = e.is_object() ? e.value("label", Json()) : Json();
        if (!label.is_number_integer() || label < 0 || label >= service.labels())
            throw BadRequest("an example's label must be an integer from 0 to " + std::to_string(service.labels() - 1));
        examples.push_back({text_of(e.value("text", Json()), "an example's text"), label.get<int32_t>()});
    }
    return service.learn(std::move(examples));
}

// Every answer is JSON; what went wrong too.
httplib::Server::Handler answering(std::function<Json(const Json& body)> answer) {
    return [answer = std::move(answer)](const httplib::Request& request, httplib::Response& response) {
        const auto say = [&](int status, const Json& body) {
            response.status = status;
            response.set_content(body.dump(-1, ' ', false, Json::error_handler_t::replace), "application/json");
        };
        try {
            say(200, answer(request.body.empty() ? Json() : Json::parse(request.body)));
        } catch (const Json::exception&) { say(400, {{"error", "the body is not JSON"}}); } catch (const BadRequest& error) {
            say(400, {{"error", error.what()}});
        } catch (const dsrt::Error& error) {
            say(error.code() == DS_E_INVALID_ARGUMENT ? 400 : 500, {{"error", error.what()}, {"status", error.name()}});
        } catch (const std::exception& error) { say(500, {{"error", error.what()}}); }
    };
}

Settings read_arguments(int argc, char** argv) {
    Settings s;
    const std::pair<const char*, std::string*> texts[] = {{"--tokenizer", &s.tokenizer}, {"--save", &s.save}, {"--config", &s.config}};
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        const auto named = std::find_if(std::begin(texts), std::end(texts), [&](const auto& t) { return word == t.first; });
        if (named != std::end(texts) && i + 1 < argc) *named->second = argv[++i];
        else if (word == "--port" && i + 1 < argc) s.port = std::stoi(argv[++i]);
        else if (s.model.empty() && word[0] != '-') s.model = word;
        else throw std::runtime_error("usage: service MODEL [--tokenizer PATH] [--port 8080] [--save DIR] [--config JSON]");
    }
    if (s.model.empty()) throw std::runtime_error("usage: service MODEL [--tokenizer PATH] [--port 8080] [--save DIR] [--config JSON]");
    if (s.tokenizer.empty()) s.tokenizer = s.model;
    return s;
}

int serve(const Settings& settings) {
    // Signals are taken by one thread that waits for them; all others leave them alone.
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT), sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, nullptr);
    Service service(settings);
    httplib::Server server;
    server.set_payload_max_length(8 << 20);
    server.set_read_timeout(10);
    server.Post("/classify", answering([&](const Json& body) { return classify(service, body); }));
    server.Post("/examples", answering([&](const Json& body) { return learn(service, body); }));
    server.Post("/save", answering([&](const Json&) { return service.save(); }));
    server.Get("/metrics", answering([&](const Json&) { return service.metrics(); }));
    server.Get("/", [](const httplib::Request&, httplib::Response& response) { response.set_content(kPage, "text/html; charset=utf-8"); });
    const int port =
        settings.port ? (server.bind_to_port("127.0.0.1", settings.port) ? settings.port : -1) : server.bind_to_any_port("127.0.0.1");
    if (port < 0) throw std::runtime_error("port " + std::to_string(settings.port) + " can't be had");
    std::printf("http://127.0.0.1:%d\n", port);
    std::fflush(stdout);
    std::thread waiter([&] {
        int signal = 0;
        sigwait(&ends, &signal);
        server.stop();
    });
    server.listen_after_bind();
    waiter.join();
    service.stop();
    std::puts("ended");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return serve(read_arguments(argc, argv));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "service: %s\n", error.what());
        return 1;
    }
}
