#!/usr/bin/env python3
"""How long moekit takes to start, beside `python3 -c pass` in the same run.

    scripts/start_time.py [build/bin/moekit]

Prints the median of each and its ratio to python3's. The last row loads libtorch.
"""
import statistics
import subprocess
import sys
import time

ROUNDS = 21


def seconds(command):
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def main():
    moekit = sys.argv[1] if len(sys.argv) > 1 else "build/bin/moekit"
    commands = {
        "python3 -c pass": ["python3", "-c", "pass"],
        "moekit version": [moekit, "version"],
        "moekit --help": [moekit, "--help"],
        "moekit train --no-such-flag": [moekit, "train", "--no-such-flag"],
        "moekit train nowhere.toml": [moekit, "train", "nowhere.toml"],
        "moekit __complete tra": [moekit, "__complete", "tra"],
        "moekit train --list-keys": [moekit, "train", "--list-keys"],
        "moekit data list": [moekit, "data", "list"],
    }
    for command in commands.values():
        seconds(command)  # into the page cache
    times = {name: [] for name in commands}
    for _ in range(ROUNDS):  # in turn: what else the machine does meets all alike
        for name, command in commands.items():
            times[name].append(seconds(command))
    python = statistics.median(times["python3 -c pass"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:30} {1e3 * median:7.1f} ms {median / python:7.2f} x python3")


if __name__ == "__main__":
    main()
