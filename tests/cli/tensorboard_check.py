"""tensorboard_check.py RUN: TensorBoard reads from RUN what its metrics.jsonl says."""

import json
import math
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def numbers(value, tag, out):
    """Numbers by place; those of lists of numbers by their index."""
    if isinstance(value, dict):
        for key, item in value.items():
            numbers(item, f"{tag}/{key}" if tag else key, out)
    elif isinstance(value, list):
        if all(isinstance(item, (int, float)) for item in value):
            for index, item in enumerate(value):
                out[f"{tag}/{index}"] = item
    elif isinstance(value, (int, float)) and tag != "step":
        out[tag] = value


def main():
    run = pathlib.Path(sys.argv[1])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    reader.Reload()
    tags = reader.Tags()
    wanted = {}
    for line in lines:
        found = {}
        numbers(line, "", found)
        for tag, value in found.items():
            wanted.setdefault(tag, []).append((line["step"], value))
    assert sorted(tags["scalars"]) == sorted(wanted), set(tags["scalars"]) ^ set(wanted)
    for tag, points in wanted.items():
        got = [(event.step, event.value) for event in reader.Scalars(tag)]
        assert [step for step, _ in got] == [step for step, _ in points], (tag, got, points)
        for (_, a), (_, b) in zip(got, points):
            assert math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-30), (tag, a, b)
    loads = [tag for tag in tags["histograms"] if tag.endswith("usage")]
    assert loads, tags["histograms"]
    for tag in loads:
        for event, line in zip(reader.Histograms(tag), lines, strict=True):
            usage = line
            for key in tag.split("/"):
                usage = usage[key]
            assert event.step == line["step"]
            used = [e for e, load in enumerate(usage) if load > 0]
            got = event.histogram_value
            assert list(got.bucket) == usage[used[0] : used[-1] + 1], tag
            assert (got.min, got.max) == (used[0] - 0.5, used[-1] + 0.5), tag
    print(f"{run}: {len(wanted)} scalars, {len(loads)} histograms of {len(lines)} lines agree")


main()
