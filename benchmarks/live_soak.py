"""The service under load for long, under twice what it can bear, and afterwards.

Capacity is the largest of rising rates at which, for ten seconds, half of the answers come within
20 ms and none is refused. The soak runs at 80 % of it: three questions about a stream, then a
window. Neither makes a stream longer, so that memory should stay where it is.
"""

import gc
import os
from collections.abc import Sequence

import numpy as np
import psutil

from benchmarks.live_load import Answer, Client, describe, open_loop, quantile, report

STEP, STEP_S, SLOW_MS = 1.2, 10.0, 20.0
SLICE_S = 5.0  # of the soak, between two looks at the memory
OVERLOAD_S = RECOVERY_S = 10.0
WARM_SHARE = 0.2  # of the soak, during which memory may still grow


async def find_capacity(client: Client, bodies: Sequence[bytes], first_per_s: float) -> float:
    """Requests a second."""
    capacity, per_s = 0.0, first_per_s
    while True:
        answers = await open_loop(client, "/predict", bodies, per_s, STEP_S)
        report(f"  {per_s:.0f}/s", answers, STEP_S)
        slow = quantile([one.latency_ms for one in answers], 0.5) > SLOW_MS
        if slow or any(one.status != 200 for one in answers):
            return capacity
        capacity, per_s = per_s, per_s * STEP


async def soak(
    address: str, bodies: Sequence[bytes], seconds: float, service: psutil.Process
) -> None:
    """Capacity, soak, overload, recovery; prints what it sees."""
    gc.disable()  # of the client, which keeps all answers and would stop for .1 s to collect
    client = Client(address)
    print("capacity")
    capacity = await find_capacity(client, bodies, 100.0)
    print(f"capacity {capacity:.0f} requests/s")
    if not capacity:
        raise SystemExit("the service is too slow for 100 requests/s; nothing to soak")

    per_s = 0.8 * capacity
    watched = {"service": service, "client": psutil.Process(os.getpid())}
    memory: list[list[float]] = [[one.memory_info().rss / 2**20 for one in watched.values()]]
    answers: list[Answer] = []
    for k in range(max(1, round(seconds / SLICE_S))):
        found = await open_loop(client, "/predict", bodies, per_s, SLICE_S)
        answers += [one._replace(due_s=one.due_s + k * SLICE_S) for one in found]
        memory.append([one.memory_info().rss / 2**20 for one in watched.values()])
    report(f"soak, {per_s:.0f}/s", answers, len(memory[1:]) * SLICE_S)
    print(
        f"  the client sent late by p99 {quantile([one.late_ms for one in answers], 0.99):.1f} ms, "
        f"at most {max(one.late_ms for one in answers):.1f} ms"
    )
    warm = np.array(memory[int(WARM_SHARE * len(memory)) :])
    minutes = np.arange(len(warm)) * SLICE_S / 60
    for k, name in enumerate(watched):
        slope = np.polyfit(minutes, warm[:, k], 1)[0] if len(warm) > 1 else float("nan")
        print(
            f"  memory of the {name}: {memory[0][k]:.1f} MB before, {memory[-1][k]:.1f} MB after, "
            f"{slope:+.2f} MB a minute after the first {WARM_SHARE:.0%}"
        )

    found = await open_loop(client, "/predict", bodies, 2 * capacity, OVERLOAD_S)
    report(f"overload, {2 * capacity:.0f}/s", found, OVERLOAD_S)
    refused = [one for one in found if one.status in (429, 503)]
    late = quantile([one.late_ms for one in found], 0.99)
    print(f"  refused: {describe(refused)}; the client sent late by p99 {late:.1f} ms")

    found = await open_loop(client, "/predict", bodies, 0.5 * capacity, RECOVERY_S)
    print(f"recovery, {0.5 * capacity:.0f}/s, second by second")
    for second in range(int(RECOVERY_S)):
        part = [one for one in found if second <= one.due_s < second + 1]
        report(f"  second {second + 1}", part, 1.0)
    print(f"  memory of the service at the end: {service.memory_info().rss / 2**20:.1f} MB")
