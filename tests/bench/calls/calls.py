import time

import dsrt

with dsrt.Engine("examples/first/config.json") as engine:
    best = 1e18
    for _ in range(20):
        begin = time.perf_counter_ns()
        for _ in range(20000):
            engine.metric("global_steps")
        best = min(best, (time.perf_counter_ns() - begin) / 20000)
print(f"{best:.0f}")
