#!/usr/bin/env python3
"""Mutation testing: how many small changes of a module's sources its tests notice.

  scripts/mutate.py [--sample N] [--seed S] [--jobs J] [MODULE ...]  (default: 25 a module, seed 1)

Works in J copies of the sources (build-mutate/), never in them. Mutants are made by universalmutator
(PyPI), drawn at random over the module's lines; those that do not compile do not count, and those of
tests/mutation/equivalent.txt, which change nothing that can be seen, do not either. A mutant is
killed when the module's tests fail, crash or do not end.
"""
import argparse
import concurrent.futures
import os
import pathlib
import queue
import random
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "build-mutate"
# Sources by module, and the tests that answer for them.
MODULES = {
    "core": ("moekit/core", ["core_test"]),
    "study": ("moekit/study", ["study_test"]),
    "text": ("moekit/text", ["text_test"]),
    "models": ("moekit/models", ["models_test"]),
    "report": ("moekit/report", ["report_test"]),
    "events": ("moekit/events", ["events_test"]),
    "kernels": ("moekit/kernels", ["kernels_test", "nn_test"]),
    "nn": ("moekit/nn", ["nn_test", "models_test", "merge_test"]),
    "metrics": ("moekit/metrics", ["metrics_test"]),
    "data": ("moekit/data", ["data_test"]),
    "train": ("moekit/train", ["train_test", "tasks_test"]),
    "merge": ("moekit/merge", ["merge_test"]),
    "compress": ("moekit/compress", ["compress_test"]),
    "theory": ("moekit/theory", ["theory_test", "tasks_test"]),
}
# Seconds a test may take, set when all are sound: one that takes five times as long hangs.
LIMITS = {}


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **options)


def must(command, **options):
    done = run(command, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout[-2000:]}")


def prepare(slot, tests):
    """A copy of the sources, built, with all tests sound."""
    tree = HOME / str(slot) / "tree"
    if tree.exists():
        shutil.rmtree(tree)
    tree.mkdir(parents=True)
    files = run(["git", "-C", str(ROOT), "ls-files"]).stdout.split("\n")
    for name in filter(None, files):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    mutated = tree.parent / "mutated"
    if mutated.exists():  # a run that was stopped left its object, newer than the sound source
        (tree / mutated.read_text()).touch()
        mutated.unlink()
    build = HOME / str(slot) / "build"
    # Copies have the same paths below this folder, so that the compiler's cache serves them all.
    os.environ["CCACHE_BASEDIR"] = str(HOME / str(slot))
    os.environ["CCACHE_NOHASHDIR"] = "1"
    # -O1 compiles in three quarters of the time. In batches, as usual: by itself each source would
    # take as long as ten of a batch, and a mutant's batch is one of hundreds.
    must(["cmake", "-S", tree, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
          "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG", "-DMOEKIT_BUILD_EXAMPLES=OFF"])
    must(["cmake", "--build", build, "--target", *tests])
    if slot == 0:
        for test in tests:
            started = time.monotonic()
            must([build / "tests" / test], cwd=build / "tests")
            LIMITS[test] = 20 + 5 * (time.monotonic() - started)
    return tree, build


def mutator():
    """The program, installed beside the copy."""
    program = HOME / "python" / "bin" / "mutate"
    if not program.exists():
        must([sys.executable, "-m", "venv", HOME / "python"])
        must([HOME / "python" / "bin" / "pip", "-q", "install", "universalmutator"])
    return program


def equivalent():
    """file: changed line, as the list has them."""
    known = set()
    path = ROOT / "tests" / "mutation" / "equivalent.txt"
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            known.add(line.split("  # ")[0].strip())
    return known


def mutants_of(program, tree, folder):
    """(file, number, line before, line after, text) of every mutant of a folder's sources."""
    found = []
    sources = [*(tree / folder).rglob("*.cpp"), *(tree / folder).rglob("*_impl.h")]
    for source in sorted(sources):
        out = HOME / "mutants"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        must([program, source, "cpp", "--noCheck", "--mutantDir", out], cwd=HOME)
        before = source.read_text().splitlines()
        for mutant in sorted(out.iterdir()):
            text = mutant.read_text()
            for number, (old, new) in enumerate(zip(before, text.splitlines()), 1):
                if old != new:
                    # A statement left out is asked for; a whole definition commented out is not.
                    # A jump behind a jump is never reached.
                    behind = before[number - 2].strip() if number > 1 else ""
                    dead = (new.strip() in ("break;", "continue;")
                            and behind.startswith(("break;", "continue;", "return", "throw")))
                    # A set or a map has a key once or not at all.
                    same = re.sub(r"(\.count\([^()]*(\([^()]*\))?[^()]*\)) >= 1", r"\1 == 1", new) == old
                    if (not dead and not same and not re.match(r"\s*(#|//|namespace|using)", old)
                            and not old.endswith("{")):
                        found.append((source.relative_to(tree), number, old.strip(), new.strip(),
                                      text))
                    break
    return found


def is_killed(build, tests):
    """None where it does not compile."""
    made = run(["cmake", "--build", build, "--target", *tests])
    if made.returncode != 0:
        return None
    for test in tests:
        try:
            if run([build / "tests" / test], cwd=build / "tests", timeout=LIMITS[test]).returncode != 0:
                return True
        except subprocess.TimeoutExpired:
            return True
    return False


def verdict_of(mutant, free, tests):
    """As is_killed(), in a copy that is free."""
    name, _, _, _, text = mutant
    tree, build = slot = free.get()
    path = tree / name
    sound = path.read_text()
    mutated = tree.parent / "mutated"
    mutated.write_text(str(name))
    path.write_text(text)
    try:
        return is_killed(build, tests)
    finally:
        path.write_text(sound)
        free.put(slot)


def score(module, slots, program, options, known):
    folder, tests = MODULES[module]
    draw = random.Random(options.seed)
    candidates = [m for m in mutants_of(program, slots[0][0], folder)
                  if f"{m[0]}: {m[2]} => {m[3]}" not in known]
    draw.shuffle(candidates)
    free = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)
    killed = alive = at = 0
    with concurrent.futures.ThreadPoolExecutor(len(slots)) as pool:
        running = []
        while killed + alive < options.sample and (running or at < len(candidates)):
            # One more than can run: the next is there when one ends.
            while len(running) <= len(slots) and at < len(candidates):
                mutant = candidates[at]
                running.append((mutant, pool.submit(verdict_of, mutant, free, tests)))
                at += 1
            # In the order they were drawn: the sample does not depend on which one ends first.
            (name, number, old, new, _), verdict = running.pop(0)
            if verdict.result() is None:
                continue
            killed += verdict.result()
            alive += not verdict.result()
            if not verdict.result():
                print(f"  survived: {name}:{number}: {old} => {new}", flush=True)
    total = killed + alive
    print(f"{module}: {killed} of {total} killed"
          + (f" ({100 * killed / total:.0f} %)" if total else ""), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--sample", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="mutants side by side")
    options = parser.parse_args()
    modules = options.modules or list(MODULES)
    unknown = [name for name in modules if name not in MODULES]
    if unknown:
        parser.error(f"no such module: {', '.join(unknown)}")
    if options.sample < 1 or options.jobs < 1:
        parser.error("--sample, --jobs: at least 1")
    HOME.mkdir(exist_ok=True)
    program = mutator()
    tests = sorted({test for name in modules for test in MODULES[name][1]})
    slots = [prepare(slot, tests) for slot in range(options.jobs)]
    known = equivalent()
    for module in modules:
        score(module, slots, program, options, known)


if __name__ == "__main__":
    main()
