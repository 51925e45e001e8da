#!/usr/bin/env python3
"""service.py SERVICE VOCABULARY: a real client against examples/service: it learns, answers under load, survives bad requests, and ends cleanly."""
import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

MODEL = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": 10, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 64, "max_position_embeddings": 64, "num_labels": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
passed = failed = 0


def check(good, what):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print(f"FAILED {what}", flush=True)


def ask(url, body=None, raw=None):
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def examples(n):
    return [{"text": "hello world" if i % 2 else "playing .", "label": i % 2} for i in range(n)]


def screenshot(url, folder):
    """A picture of the live page, where a headless Chromium is installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        print("SKIPPED examples/service/page: chromium is not installed")
        return
    picture, probe = os.path.join(folder, "page.png"), os.path.join(folder, "probe.png")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=900,720", "--virtual-time-budget=4000"]
    try:
        subprocess.run(command + [f"--screenshot={probe}", "data:text/html,<p>a page"], capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        pass
    if not os.path.exists(probe):
        print("SKIPPED examples/service/page: chromium does not run here")
        return

    def shown(page):
        return page.count("<polyline") == 2 and re.search(r"Steps</dt><dd>[1-9]", page) and page.count("It is class ") == 2 and "step 48<" in page

    for _ in range(4):  # a browser on a busy machine may give up waiting for the page's own requests
        try:
            subprocess.run(command + [f"--screenshot={picture}", url], capture_output=True, timeout=120)
            page = subprocess.run(command + ["--dump-dom", url], capture_output=True, text=True, timeout=120).stdout
        except subprocess.TimeoutExpired:
            continue
        page = re.sub(r"<script.*?</script>", "", page, flags=re.S)  # what it made, not what it would make
        if shown(page):
            break
    else:
        page = ""
    check(os.path.exists(picture) and os.path.getsize(picture) > 5000, "page/shows_in_a_browser")
    check(shown(page), "page/draws_the_curves_and_the_numbers_and_offers_each_label")
    kept = os.environ.get("DSRT_SCREENSHOTS")
    if kept and os.path.exists(picture):
        shutil.copy(picture, os.path.join(kept, "service.png"))


def main():
    service, vocabulary = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        config = {"optimizer": {"type": "AdamW", "params": {"lr": 0.01}}, "threads": 1}
        command = [service, json.dumps(MODEL), "--tokenizer", vocabulary, "--port", "0", "--save", os.path.join(folder, "saved"), "--config", json.dumps(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            url = process.stdout.readline().strip()
            check(url.startswith("http://127.0.0.1:"), "service/says_where_it_listens")
            status, before = ask(url + "/classify", {"texts": ["hello world", "playing ."]})
            check(status == 200 and len(before["classes"]) == 2 and abs(sum(before["probabilities"][0]) - 1) < 1e-5, "classify/answers")
            for raw, body in ((b"{", None), (b"\xff\xfe", None), (None, {}), (None, {"texts": []}), (None, {"texts": [1]}), (None, {"texts": ["x"] * 1000})):
                status, answer = ask(url + "/classify", body, raw)
                check(status == 400 and answer.get("error"), f"bad_requests/are_told: {raw or body}"[:100])
            for body in ({"examples": [{"text": "hello"}]}, {"examples": [{"text": "hello", "label": 7}]}, {"examples": ["x"]}, {"examples": [{"text": "", "label": 0}]}):
                status, answer = ask(url + "/examples", body)
                check(status == 400 and answer.get("error"), f"bad_examples/are_told: {body}")
            # Many clients classify while it trains.
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                learning = [pool.submit(ask, url + "/examples", {"examples": examples(64)}) for _ in range(12)]
                asking = [pool.submit(ask, url + "/classify", {"texts": ["hello world"] * (1 + k % 5)}) for k in range(100)]
                check(all(f.result()[0] == 200 for f in learning), "load/examples_are_accepted")
                check(all(f.result()[0] == 200 and len(f.result()[1]["classes"]) == 1 + k % 5 for k, f in enumerate(asking)), "load/every_request_is_answered")
            metrics = {}
            for _ in range(600):
                metrics = ask(url + "/metrics")[1]
                if metrics["waiting"] == 0 and metrics["global_steps"] >= 48:
                    break
                time.sleep(0.1)
            check(metrics["global_steps"] == 48 and metrics["failed_steps"] == 0, f"training/every_example_was_learned: {metrics}"[:200])
            check(metrics["curve"][-1] < 0.2 < metrics["curve"][0], f"training/the_loss_falls: {metrics['curve'][:1]} {metrics['curve'][-1:]}")
            check(ask(url + "/classify", {"texts": ["hello world", "playing ."]})[1].get("classes") == [1, 0], "classify/knows_what_it_learned")
            screenshot(url, folder)
            process.send_signal(signal.SIGTERM)
            check(process.wait(timeout=60) == 0 and process.stdout.read() == "ended\n", "service/ends_cleanly")
        check(os.path.exists(os.path.join(folder, "saved", "latest")), "service/saves_when_it_ends")
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
