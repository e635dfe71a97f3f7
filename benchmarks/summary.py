"""What the end of `pytest --benchmark` says of the kernels and of the time to accuracy, below the table of epochs."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

Record = dict[str, Any]


def kernel_lines(records: Sequence[Record]) -> Iterator[str]:
    """Yield the limits of each device, and a line a kernel and shape: fused beside unfused and a copy."""
    for device in dict.fromkeys(record["device"] for record in records if record["what"] in {"kernel", "ceiling"}):
        mine = [record for record in records if record.get("device") == device]
        limits = [_limits(record) for record in mine if record["what"] == "ceiling"]
        yield " ".join([f"kernels on {device}, GB/s read and written", *limits])
        yield f"{'':>26}{'fused':>9}{'unfused':>9}{'copy':>9}{'to unfused':>12}{'to copy':>9}"
        for record in mine:
            if record["what"] == "kernel":
                yield _kernel_line(record)
        yield ""


def race_lines(records: Sequence[Record]) -> Iterator[str]:
    """Yield a line for each entrant and goal, the fastest first."""
    races = [record for record in records if record["what"] == "time to accuracy"]
    for network, goal in dict.fromkeys((race["network"], race["goal"]) for race in races):
        mine = [race for race in races if (race["network"], race["goal"]) == (network, goal)]
        yield f"{network} to {goal:.0%} of the test images, each in its best setting"
        yield f"{'':>24}{'seconds':>10}{'quartiles':>19}{'epochs':>8}{'batch':>7}{'rate':>6}"
        for race in sorted(mine, key=_seconds):
            yield _race_line(race)
        yield ""


def _limits(ceiling: Record) -> str:
    parts = []
    if "copied_bytes_per_second" in ceiling:
        parts.append(f"large copies {ceiling['copied_bytes_per_second'] / 1e9:,.1f} GB/s")
    if "multiplied_operations_per_second" in ceiling:
        parts.append(f"large float32 products {ceiling['multiplied_operations_per_second'] / 1e9:,.0f} GFLOP/s")
    return f"({'; '.join(parts)})" if parts else ""


def _kernel_line(record: Record) -> str:
    start = f"{record['name']:<14}{'x'.join(map(str, record['shape'])):>12}"
    if record["problem"] is not None:
        return f"{start}   FAILED"
    fused, unfused, copy = (record[way]["quartiles"][1] for way in ("fused", "unfused", "copy"))
    rates = "".join(f"{record['bytes'] / seconds / 1e9:9.1f}" for seconds in (fused, unfused, copy))
    mark = "~" if record["fused"]["wide"] else ""
    return f"{start}{rates}{f'{mark}{unfused / fused:.2f}':>12}{copy / fused:9.0%}"


def _seconds(race: Record) -> float:
    return float(race["quartiles"][1]) if race["problem"] is None else float("inf")


def _race_line(race: Record) -> str:
    start = f"{race['device'] + ' ' + race['name']:<24}"
    if race["problem"] is not None:
        return f"{start}{'FAILED':>10}"
    low, median, high = race["quartiles"]
    spread = f"({low:.3g} to {high:.3g})"
    return (
        f"{start}{median:10.3g}{spread:>19}{statistics.median(race['epochs']):8g}{race['batch_size']:7}"
        f"{race['learning_rate']:6g}"
    )
