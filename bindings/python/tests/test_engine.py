"""Engines, data, callbacks, errors."""
import gc
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import unittest
import weakref

import dsrt
import support
from dsrt import errors
from support import IDS, config


def rows(folder, count=9):
    path = os.path.join(folder, "rows.jsonl")
    with open(path, "w") as f:
        for r in range(count):
            f.write(json.dumps({"ids": [(r + i * i) % 11 for i in range(5)]}) + "\n")
    return {"files": path, "columns": {"input_ids": "ids"}}


class Training(unittest.TestCase):
    def test_steps_by_hand_and_by_batches_agree(self):
        with tempfile.TemporaryDirectory() as folder:
            options = rows(folder)
            with dsrt.Engine(config()) as a, dsrt.Engine(config()) as b:
                whole = [step.loss for step in a.steps(dsrt.Data(a, options))]
                by_hand = []
                for batch in dsrt.Data(b, options):
                    by_hand.append(b.forward(batch))
                    b.backward()
                    self.assertEqual(b.step().name, "UPDATED")
            self.assertGreater(len(whole), 3)
            self.assertEqual(whole, by_hand)

    def test_accumulation_says_pending(self):
        with dsrt.Engine(config(gradient_accumulation_steps=2)) as engine:
            outcomes = []
            for _ in range(2):
                engine.forward(input_ids=IDS, labels=IDS)
                engine.backward()
                outcomes.append(engine.step().name)
        self.assertEqual(outcomes, ["PENDING", "UPDATED"])

    def test_parameters_are_a_mapping(self):
        with dsrt.Engine(config()) as engine:
            p = engine.parameters
            self.assertIn("transformer.wte.weight", p)
            self.assertEqual(p.shape("transformer.wte.weight"), (11, 8))
            self.assertEqual(len(p), len(list(p)))
            p["transformer.wte.weight"] = [[0.25] * 8] * 11
            self.assertEqual(p["transformer.wte.weight"].tolist()[3], [0.25] * 8)
            engine.forward(input_ids=IDS, labels=IDS)
            engine.backward()
            self.assertNotEqual(max(map(max, p.grad("transformer.wte.weight").tolist())), 0)

    def test_a_loss_of_the_hosts_own(self):
        with dsrt.Engine(config()) as engine:
            engine.forward_only(input_ids=IDS)
            shape = engine.output("logits").shape
            engine.backward(logits=dsrt.Tensor.zeros(shape))
            engine.step()
            self.assertEqual(engine.metric("grad_norm"), 0)

    def test_checkpoints_carry_the_clients_state(self):
        with tempfile.TemporaryDirectory() as folder, dsrt.Engine(config()) as engine:
            engine.save(folder, client_state={"epoch": 3})
            self.assertEqual(engine.load(folder), {"epoch": 3})
            with self.assertRaises(errors.NotFoundError):
                engine.load(folder, "absent")

    def test_settings_change_while_it_runs(self):
        with dsrt.Engine(config()) as engine:
            engine.set("optimizer.params.lr", 0.5)
            self.assertEqual(engine.metric("lr"), 0.5)
            self.assertEqual(engine.config["train_micro_batch_size_per_gpu"], 2)

    def test_predictions_are_scored(self):
        self.assertEqual(dsrt.score("spans", [["B-PER", "O"]], [["B-PER", "O"]])["f1"], 1)
        with self.assertRaises(dsrt.Error):
            dsrt.score("taste", [], [])

    def test_a_model_is_scored_on_rows(self):
        with tempfile.TemporaryDirectory() as folder, dsrt.Engine(config()) as engine:
            data = {**rows(folder, 3), "task": "causal"}
            scores = engine.evaluate(data)
            self.assertEqual((scores["task"], scores["rows"]), ("causal", 3))
            self.assertGreater(scores["perplexity"], 1)
            with self.assertRaises(errors.InvalidArgumentError):
                engine.evaluate(data, metric=1)

    def test_files_come_and_go(self):
        with tempfile.TemporaryDirectory() as folder, dsrt.Engine(config()) as engine:
            name = "transformer.ln_f.weight"
            engine.save(folder, "here", weights_only=True)
            engine.parameters[name] = [float(i) for i in range(8)]
            engine.load(folder, "here", weights_only=True)
            self.assertEqual(engine.parameters[name].tolist(), [1] * 8)
            engine.export(os.path.join(folder, "tuned"), dtype="bf16")
            self.assertTrue(os.path.exists(os.path.join(folder, "tuned", "model.safetensors")))
            engine.report(os.path.join(folder, "report.html"), {"title": "A run of Python's"})
            with open(os.path.join(folder, "report.html")) as report:
                self.assertIn("A run of Python", report.read())
            engine.forward(input_ids=IDS, labels=IDS)
            engine.backward()
            engine.zero_grad()
            self.assertEqual(max(map(max, engine.parameters.grad("transformer.wte.weight").tolist())), 0)

    def test_a_familys_body_is_part_of_a_graph(self):
        g = dsrt.Graph()
        body = os.path.join(os.path.dirname(support.TOKENIZER), "models", "bert-mlm")
        g.loss(g.op("mean", g.model(body, [g.input("input_ids", dsrt.DType.INT64, (-1, -1))], "last_hidden_state", prefix="bert.")))
        with dsrt.Engine({"optimizer": "SGD", "train_micro_batch_size_per_gpu": 2, "threads": 1}, graph=g) as engine:
            self.assertTrue(next(iter(engine.parameters)).startswith("bert."))
        self.assertIn("layernorm", json.dumps(dsrt.Graph.ops()))
        dsrt.Graph.parse("graph m(%x: f32[rows,3]) {\n  %y = exp %x\n  output y = %y\n}\n")
        with self.assertRaises(dsrt.Error):
            dsrt.Engine(config(), mpi_comm=-5)

    def test_a_plan_runs_nothing(self):
        self.assertIn("memory", json.dumps(dsrt.plan(config())))

    def test_a_closed_engine_refuses(self):
        engine = dsrt.Engine(config())
        data = dsrt.Data.from_batches(engine, lambda: [])
        engine.close()
        engine.close()
        with self.assertRaisesRegex(errors.StateError, "this engine is closed"):
            engine.forward(input_ids=IDS)
        with self.assertRaises(errors.StateError):
            data.next()

    def test_a_graph_of_ones_own(self):
        g = dsrt.Graph()
        x = g.input("x", dsrt.DType.FLOAT32, (-1, 3))
        w = g.param("w", (3, 1), {"type": "ones"})
        y = g.op("matmul", x, w)
        g.output("y", y)
        g.loss(g.op("mean", g.op("mul", y, y)))
        with dsrt.Engine({"optimizer": {"type": "SGD", "params": {"lr": 0.1}}, "train_micro_batch_size_per_gpu": 1, "threads": 1}, graph=g) as engine:
            self.assertEqual(engine.forward(x=[[1.0, 2.0, 3.0]]), 36)
            engine.backward()
            engine.step()
            self.assertEqual(engine.predict("y", x=[[1.0, 2.0, 3.0]]).shape, (1, 1))
        self.assertTrue(any("matmul" in json.dumps(op) for op in dsrt.Graph.ops()))


class Arguments(unittest.TestCase):
    def test_wrong_kinds_are_named(self):
        with dsrt.Engine(config()) as engine, tempfile.TemporaryDirectory() as folder:
            batch = dsrt.Batch(input_ids=IDS)
            for words, call in (("tag must be a str", lambda: engine.load(folder, 3)), ("folder must be a str, bytes", lambda: engine.save(3)),
                                ("config must be", lambda: dsrt.Engine(3)), ("prompt must be integers.*float", lambda: engine.generate([1.7])),
                                ("prompt must be integers, not str", lambda: engine.generate("12")), ("batch=", lambda: engine.predict(batch))):
                with self.assertRaisesRegex(TypeError, words):
                    call()
            with self.assertRaisesRegex(errors.InvalidArgumentError, "folder: .*UTF-8"):
                engine.save(os.fsdecode(b"/x\xff"))
            engine.save(os.fsencode(folder), "here")
            self.assertTrue(os.path.exists(os.path.join(folder, "here")))

    def test_moments_are_the_first_and_the_second(self):
        with dsrt.Engine(config()) as engine:
            p, name = engine.parameters, "transformer.ln_f.weight"
            for which in (0, -1, 3):
                with self.assertRaisesRegex(ValueError, "which must be 1 or 2"):
                    p.moment(name, which)
                with self.assertRaisesRegex(ValueError, "which must be 1 or 2"):
                    p.set_moment(name, [0.0] * 8, which)
            self.assertEqual(p.moment(name, 2).tolist(), [0] * 8)
            self.assertIsNone(p.get("nope"))
            self.assertEqual(p.get(name).shape, (8,))

    def test_ctrl_c_ends_generation_without_a_listener(self):
        long = {**support.MODEL, "n_positions": 65536}
        with dsrt.Engine(config(model=long)) as engine:
            began = time.monotonic()
            for call in (lambda: engine.generate([1], max_new_tokens=60000), lambda: engine.generate_batch([[1], [2]], max_new_tokens=60000)):
                threading.Timer(0.05, signal.raise_signal, (signal.SIGINT,)).start()
                with self.assertRaises(KeyboardInterrupt):
                    call()
            self.assertLess(time.monotonic() - began, 5)


class Callbacks(unittest.TestCase):
    def test_batches_of_ones_own_keep_every_tensor(self):
        data = dsrt.Data.from_batches(None, lambda: [dsrt.Batch(x=[[1.0]], y=[[2.0]])])
        again = dsrt.Data.from_batches(None, lambda: data)
        batch = again.next()
        self.assertEqual((batch["x"].tolist(), batch["y"].tolist()), ([[1]], [[2]]))

    def test_empty_epochs_end(self):
        with dsrt.Engine(config()) as engine, dsrt.Data.from_batches(engine, lambda: []) as data:
            with self.assertRaisesRegex(errors.StateError, "0 of 3 steps"):
                list(engine.steps(data, count=3))

    def test_a_cursor_that_is_no_text_is_named(self):
        with dsrt.Engine(config()) as engine:
            data = dsrt.Data.from_batches(engine, lambda: [{"input_ids": IDS, "labels": IDS}], save=lambda: {"at": 1}, restore=print)
            with self.assertRaisesRegex(TypeError, r"save\(\) returns must be a str, not dict"):
                engine.train_batch(data)

    def test_closing_frees_what_refers_to_itself(self):
        class Host:
            def epoch(self):
                return []

        host = Host()
        host.data, gone = dsrt.Data.from_batches(None, host.epoch), weakref.ref(host)
        host.data.close()
        del host
        gc.collect()
        self.assertIsNone(gone())

    def test_a_data_source_feeds_train_batch_and_its_cursor_is_saved(self):
        cursors = []
        with tempfile.TemporaryDirectory() as folder, dsrt.Engine(config()) as engine:
            data = dsrt.Data.from_batches(engine, lambda: [{"input_ids": IDS, "labels": IDS}] * 3, save=lambda: '{"at": 7}', restore=cursors.append)
            self.assertEqual(len(list(engine.steps(data))), 3)
            self.assertEqual(len(list(engine.steps(data, count=7))), 7)
            engine.save(folder)
            engine.load(folder)
        self.assertEqual([json.loads(c) for c in cursors], [{"at": 7}])

    def test_what_a_data_source_raises_comes_out_of_the_call(self):
        class Broken(Exception):
            pass

        def epoch():
            yield {"input_ids": IDS, "labels": IDS}
            raise Broken("row 2")

        with dsrt.Engine(config()) as engine:
            data = dsrt.Data.from_batches(engine, epoch)
            engine.train_batch(data)
            try:
                engine.train_batch(data)
                self.fail("nothing was raised")
            except Broken as e:
                self.assertEqual(str(e), "row 2")
                self.assertIn("epoch", [frame.name for frame in traceback.extract_tb(e.__traceback__)])
            self.assertGreater(engine.forward(input_ids=IDS, labels=IDS), 0)  # the engine lives on

    def test_an_optimizer_of_ones_own_updates_in_place(self):
        try:
            import numpy  # noqa: F401
        except ImportError:
            self.skipTest("numpy is not installed")

        class Momentum(dsrt.Optimizer):
            state_per_element = 1

            def update(self, parameter, step, lr, weight, gradient, state):
                state[:, 0] = 0.9 * state[:, 0] + gradient
                weight -= lr * state[:, 0]

        losses = []
        for own in (Momentum(), None):
            with dsrt.Engine(config(optimizer={"type": "SGD", "params": {"lr": 0.1, "momentum": 0.9}}), optimizer=own) as engine:
                batches = dsrt.Data.from_batches(engine, lambda: [{"input_ids": IDS, "labels": IDS}] * 5)
                losses.append([step.loss for step in engine.steps(batches)])
        for own, builtin in zip(*losses):
            self.assertAlmostEqual(own, builtin, delta=1e-5)
        self.assertLess(losses[0][-1], losses[0][0])

    def test_what_an_optimizer_raises_comes_out_of_step(self):
        class Broken(dsrt.Optimizer):
            def update(self, *args):
                raise KeyError("no rule for " + args[0])

        with dsrt.Engine(config(), optimizer=Broken()) as engine:
            engine.forward(input_ids=IDS, labels=IDS)
            engine.backward()
            with self.assertRaisesRegex(KeyError, "no rule for"):
                engine.step()

    def test_an_op_of_ones_own_has_a_gradient(self):
        try:
            import numpy
        except ImportError:
            self.skipTest("numpy is not installed")

        class Square(dsrt.Op):
            def forward(self, inputs, outputs, factor=1):
                outputs[0][:] = factor * inputs[0] ** 2

            def backward(self, inputs, outputs, output_gradients, input_gradients, factor=1):
                input_gradients[0][:] = 2 * factor * inputs[0] * output_gradients[0]

        text = ("graph m(%x: f32[rows,3], param %w: f32[3,2] normal 0.5) {\n  %h = matmul %x, %w\n  %y = SQUARE\n  %loss = mean %y\n"
                "  loss = %loss\n}\n")
        settings = {"optimizer": {"type": "SGD", "params": {"lr": 0.1}}, "train_micro_batch_size_per_gpu": 2, "threads": 1}
        x = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
        losses = []
        for body in ("square %h {factor = 2}", "mul %h, %h\n  %y2 = scale %y {factor = 2}"):
            g = dsrt.Graph()
            g.define_op("square", Square())
            g.read(text.replace("SQUARE", body).replace("mean %y", "mean %y2" if "mul" in body else "mean %y"))
            with dsrt.Engine(settings, graph=g) as engine:
                losses.append([])
                for _ in range(3):
                    losses[-1].append(engine.forward(x=x))
                    engine.backward()
                    engine.step()
        for own, builtin in zip(*losses):
            self.assertAlmostEqual(own, builtin, delta=1e-5 * abs(builtin))
        self.assertNotEqual(losses[0][0], losses[0][2])

    def test_what_an_op_raises_comes_out_of_forward(self):
        class Broken(dsrt.Op):
            def forward(self, inputs, outputs):
                raise KeyError("no rule")

        g = dsrt.Graph()
        g.define_op("broken", Broken())
        g.read("graph m(%x: f32[rows,3], param %w: f32[3] ones) {\n  %h = mul %x, %w\n  %y = broken %h\n  output y = %y\n}\n")
        with dsrt.Engine({"threads": 1}, graph=g) as engine:
            with self.assertRaisesRegex(KeyError, "no rule"):
                engine.predict("y", x=[[1.0, 2.0, 3.0]])

    def test_tokens_stream_and_stop(self):
        with dsrt.Engine(config()) as engine:
            heard = []
            made = engine.generate([1, 2], heard.extend, max_new_tokens=5, temperature=0)
            self.assertEqual((len(made), heard), (5, made))
            heard.clear()
            self.assertEqual(len(engine.generate([1, 2], lambda ids: (heard.extend(ids), len(heard) < 2)[1], max_new_tokens=5)), 2)
            with self.assertRaisesRegex(ZeroDivisionError, "division"):
                engine.generate([1, 2], lambda ids: 1 / 0)
            with self.assertRaises(KeyboardInterrupt):
                engine.generate([1, 2], lambda ids: (_ for _ in ()).throw(KeyboardInterrupt()))

    def test_prompts_go_on_together_as_they_do_alone(self):
        with dsrt.Engine(config()) as engine:
            prompts, heard = [[1, 2], [3], [4, 5, 6]], {}
            made = engine.generate_batch(prompts, lambda row, ids: heard.setdefault(row, []).extend(ids), max_new_tokens=4)
            self.assertEqual(made, [engine.generate(p, max_new_tokens=4) for p in prompts])
            self.assertEqual(heard, dict(enumerate(made)))
            self.assertEqual([len(row) for row in engine.generate_batch(prompts, lambda row, ids: row != 1, max_new_tokens=4)], [4, 1, 4])
            with self.assertRaisesRegex(ZeroDivisionError, "division"):
                engine.generate_batch(prompts, lambda row, ids: 1 / row)

    def test_text_streams_in_whole_characters(self):
        tokenizer, pieces = dsrt.Tokenizer(support.TOKENIZER), []
        with dsrt.Engine(config()) as engine:
            made = engine.generate_text(tokenizer, "a", pieces.append, max_new_tokens=6)
            ids = engine.generate(tokenizer.encode("a").ids, max_new_tokens=6)
            self.assertEqual((made, "".join(pieces)), (tokenizer.decode(ids), made))
            with self.assertRaisesRegex(ZeroDivisionError, "division"):
                engine.generate_text(tokenizer, "a", lambda piece: 1 / 0, max_new_tokens=6)
            stopped = []
            engine.generate_text(tokenizer, "a", lambda piece: (stopped.append(piece), False)[1], max_new_tokens=6)
            self.assertEqual(len(stopped), 1)

    def test_the_log_arrives(self):
        lines = []
        dsrt.set_log(lambda *line: lines.append(line), dsrt.LogLevel.TRACE)
        try:
            dsrt.Engine(config()).close()
            self.assertTrue(lines)
            self.assertIsInstance(lines[0][0], dsrt.LogLevel)
            self.assertTrue(all(isinstance(text, str) for line in lines for text in line[1:]))
        finally:
            dsrt.set_log(None)

    def test_what_a_log_raises_comes_out_of_the_call_that_logged(self):
        dsrt.set_log(lambda *line: 1 / 0, dsrt.LogLevel.TRACE)
        try:
            with self.assertRaises(ZeroDivisionError):
                dsrt.Engine(config())
        finally:
            dsrt.set_log(None)
        dsrt.Engine(config()).close()  # nothing of it is left


class Errors(unittest.TestCase):
    def test_a_mistake_names_key_and_remedy_and_is_a_value_error(self):
        with self.assertRaises(errors.ConfigError) as caught:
            dsrt.Engine(config(optimiser={}))
        self.assertIn("did you mean optimizer", str(caught.exception))
        self.assertEqual((caught.exception.code, caught.exception.name), (-2, "DS_E_CONFIG"))
        self.assertIsInstance(caught.exception, ValueError)

    def test_every_code_has_its_class(self):
        for code in range(-15, 0):
            error = errors.from_status(code, "words")
            self.assertEqual((error.code, error.name, str(error)), (code, dsrt.native.status_name(code), "words"))
            self.assertIsInstance(error, dsrt.Error)
        self.assertIsInstance(errors.from_status(-4, "words"), OSError)

    def test_wrong_types_are_type_errors(self):
        with self.assertRaises(TypeError):
            dsrt.Tokenizer(3)
        with dsrt.Engine(config()) as engine:
            with self.assertRaises(TypeError):
                engine.metric(3)

    def test_a_busy_engine_says_so_to_its_own_callback(self):
        with dsrt.Engine(config()) as engine:
            with self.assertRaises(errors.BusyError):
                engine.generate([1], lambda ids: engine.zero_grad())


class Threads(unittest.TestCase):
    def test_python_goes_on_during_a_long_call(self):
        big = dict(support.MODEL, n_embd=128, n_layer=6, vocab_size=1000)
        ids = [[(r * 7 + i) % 1000 for i in range(16)] for r in range(64)]
        with dsrt.Engine(config(model=big)) as engine:
            batch = dsrt.Batch(input_ids=ids, labels=ids)
            engine.eval(batch)  # compiles the plan
            ticks, seen = [0], []

            def work():
                begin, before = time.monotonic(), ticks[0]
                engine._native.eval(batch._native)  # one call of C++
                seen.extend((ticks[0] - before, time.monotonic() - begin))

            thread = threading.Thread(target=work)
            thread.start()
            while thread.is_alive():
                ticks[0] += 1
                time.sleep(0)
            self.assertGreater(seen[0], 50, f"turns in {seen[1]:.3f} s")

    def test_a_switch_on_another_thread_ends_a_run(self):
        cancel = dsrt.Cancel()
        with dsrt.Engine(config(), cancel=cancel) as engine:
            data = dsrt.Data.from_batches(engine, lambda: [{"input_ids": IDS, "labels": IDS}] * 1000)
            threading.Timer(0.05, cancel.set).start()
            with self.assertRaises(errors.Cancelled):
                for _ in engine.steps(data, count=10**9):
                    pass
            cancel.set(False)
            self.assertIsNotNone(engine.train_batch(data))


class Screen:
    def __init__(self, terminal):
        self.text, self.terminal = "", terminal

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


class ShowsProgress(unittest.TestCase):
    def run_with(self, engine, **options):
        data = dsrt.Data.from_batches(engine, lambda: [{"input_ids": IDS, "labels": IDS}] * 4)
        with dsrt.Progress(engine, total=4, every=0, **options) as progress:
            for step in engine.steps(data):
                progress(step)

    def test_on_a_terminal_and_in_a_log(self):
        with dsrt.Engine(config()) as engine:
            terminal, log = Screen(True), Screen(False)
            self.run_with(engine, file=terminal)
            self.run_with(engine, file=log)
        self.assertGreaterEqual(terminal.text.count("\r"), 4)
        self.assertRegex(terminal.text, r"step 4/4  loss \d+\.\d{4}  lr 0\.01")
        self.assertNotIn("\r", log.text)
        self.assertIn("step 5/4", log.text)

    def test_in_a_notebook(self):
        import types
        shown = []

        class Handle:
            def update(self, html):
                shown.append(html)

        ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
        ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
        display.HTML = str
        display.display = lambda html, display_id: shown.append(html) or Handle()
        with unittest.mock.patch.dict(sys.modules, {"IPython": ipython, "IPython.display": display}), dsrt.Engine(config()) as engine:
            self.run_with(engine)
        self.assertGreaterEqual(len(shown), 4)
        self.assertIn("<progress max=4 value=4>", shown[-1])


class Package(unittest.TestCase):
    def test_it_is_typed(self):
        import inspect
        folder = os.path.dirname(dsrt.__file__)
        self.assertTrue(os.path.exists(os.path.join(folder, "py.typed")))
        for name in dsrt.__all__:
            thing = getattr(dsrt, name)
            functions = [thing] if inspect.isfunction(thing) else [f for n, f in vars(thing).items() if inspect.isfunction(f) and n[0] != "_"] if inspect.isclass(thing) else []
            for f in functions:
                self.assertIsNot(inspect.signature(f).return_annotation, inspect.Signature.empty, f"{name}.{f.__name__}")

    def test_versions(self):
        self.assertEqual(dsrt.__version__, "0.1.0")
        self.assertEqual(dsrt.abi_version()[0], 0)
        self.assertIn("cpu", dsrt.build_info())
        self.assertIn("gradient_clipping", json.dumps(dsrt.config_describe()))


class Memory(unittest.TestCase):
    def test_handles_leave_nothing_behind(self):
        def used():
            with open("/proc/self/statm") as f:
                return int(f.read().split()[1]) * 4096

        def all_kinds(count):
            for _ in range(count):
                b = dsrt.Batch()
                b["input_ids"] = dsrt.Tensor(IDS)
                dsrt.Graph().input("x", dsrt.DType.FLOAT32, (-1,))
                dsrt.Cancel()
                tokenizer.stream().put([0])
                dsrt.Data.from_batches(None, lambda: [])

        tokenizer = dsrt.Tokenizer(support.TOKENIZER)
        all_kinds(1000)
        with dsrt.Engine(config()) as engine:
            for _ in range(20):
                dsrt.Engine(config())
            before = used()
            all_kinds(10_000)
            for _ in range(10_000):
                engine.parameters["transformer.ln_f.bias"]
            self.assertLess(used() - before, 8 << 20)
            before = used()
            for _ in range(100):
                dsrt.Engine(config())
            self.assertLess(used() - before, 8 << 20)


if __name__ == "__main__":
    import unittest.mock
    support.main()
