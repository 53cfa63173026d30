#!/usr/bin/env python3
"""One training step of the benchmarks' small language model: moekit beside PyTorch of PyPI.

  scripts/compare_pytorch.py [--build build] [--rounds 3] [--threads 1,2] [--env build-pytorch]

The model is that of moekit/bench/steps/decoder_step.cpp: 4 blocks of d = 256, 16 experts of width
512, two a token, batch 16 x 256, vocabulary 1,024, AdamW. PyTorch runs it eagerly with its own
fused attention and fused AdamW, its experts as one module each (`loop`) and, where this version
has it for the CPU, as one grouped product (`grouped`). Both take turns, each in a process of its
own; ratios are of medians. PyTorch is installed into a virtual environment, some gigabytes, unless
one is there; --pip-options goes to pip.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH, LENGTH, SIZE, HEADS, LAYERS, EXPERTS, TOP_K, WIDTH, VOCABULARY = (
    16, 256, 256, 4, 4, 16, 2, 512, 1024)
STEPS = 5  # timed, behind one that is not


def model_of(torch, experts_kind, dtype):
    """The decoder, and its experts in `dtype`."""
    nn, F = torch.nn, torch.nn.functional
    dim = SIZE // HEADS

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(SIZE, EXPERTS, bias=False)
            if experts_kind == "loop":
                self.up = nn.ModuleList(nn.Linear(SIZE, 2 * WIDTH, bias=False)
                                        for _ in range(EXPERTS))
                self.down = nn.ModuleList(nn.Linear(WIDTH, SIZE, bias=False)
                                          for _ in range(EXPERTS))
            else:
                self.up = nn.Parameter(torch.randn(EXPERTS, SIZE, 2 * WIDTH) / SIZE ** 0.5)
                self.down = nn.Parameter(torch.randn(EXPERTS, WIDTH, SIZE) / WIDTH ** 0.5)

        def forward(self, x):
            best, index = self.router(x).topk(TOP_K, 1)
            share = best.softmax(1).flatten()
            order = index.flatten().argsort(stable=True)
            count = index.flatten().bincount(minlength=EXPERTS)
            token = order // TOP_K
            rows = x[token].to(dtype)
            if experts_kind == "loop":
                parts = []
                for e, part in enumerate(rows.split(count.tolist())):
                    gate, up = F.linear(part, self.up[e].weight.to(dtype)).chunk(2, 1)
                    parts.append(F.linear(F.silu(gate) * up, self.down[e].weight.to(dtype)))
                out = torch.cat(parts)
            else:
                ends = count.cumsum(0).to(torch.int32)
                gate, up = torch._grouped_mm(rows, self.up.to(dtype), offs=ends).chunk(2, 1)
                out = torch._grouped_mm(F.silu(gate) * up, self.down.to(dtype), offs=ends)
            return torch.zeros_like(x).index_add(0, token, out.float() * share[order, None])

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.after = nn.RMSNorm(SIZE, 1e-5), nn.RMSNorm(SIZE, 1e-5)
            self.qkv = nn.Linear(SIZE, 3 * SIZE, bias=False)
            self.out = nn.Linear(SIZE, SIZE, bias=False)
            self.experts = Experts()

        def forward(self, x, cos, sin):
            q, k, v = self.qkv(self.before(x)).view(BATCH, LENGTH, 3, HEADS, dim).unbind(2)

            def turned(of):
                a, b = of.chunk(2, -1)
                return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).transpose(1, 2)

            mixed = F.scaled_dot_product_attention(turned(q), turned(k), v.transpose(1, 2),
                                                   is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(BATCH, LENGTH, SIZE))
            return x + self.experts(self.after(x).flatten(0, 1)).view_as(x)

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Parameter(0.02 * torch.randn(VOCABULARY, SIZE))
            self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
            self.norm = nn.RMSNorm(SIZE, 1e-5)
            angle = torch.outer(torch.arange(LENGTH).float(),
                                10000.0 ** -(torch.arange(0, dim, 2) / dim))
            self.cos, self.sin = angle.cos()[:, None], angle.sin()[:, None]

        def forward(self, ids):
            x = self.embedding[ids]
            for block in self.blocks:
                x = block(x, self.cos, self.sin)
            return self.norm(x) @ self.embedding.t()

    return Decoder()


def run_pytorch(kind, precision, threads):
    """Inside the virtual environment: prints the median milliseconds of a step."""
    import torch
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = model_of(torch, kind, getattr(torch, precision))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    ids = torch.randint(VOCABULARY, (BATCH, LENGTH + 1))
    took = []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        optimizer.zero_grad()
        logits = model(ids[:, :-1]).flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).backward()
        optimizer.step()
        took.append(1e3 * (time.perf_counter() - started))
    print(json.dumps({"version": torch.__version__, "ms": statistics.median(took[1:])}))


def pytorch(python, kind, precision, threads):
    """(milliseconds, version), or (None, what it says)."""
    done = subprocess.run([python, __file__, "--inside", kind, precision, str(threads)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["no message"])[-1]
    found = json.loads(done.stdout.splitlines()[-1])
    return found["ms"], found["version"]


def moekit(build, name, threads):
    done = subprocess.run([build / "bin" / "moekit_benchmark",
                           f"--benchmark_filter=^{name}/{threads}/", "--benchmark_min_time=5",
                           "--benchmark_format=json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"moekit_benchmark: {done.stderr.strip()}")
    return json.loads(done.stdout)["benchmarks"][0]["real_time"]


def environment(folder, options):
    python = folder / "bin" / "python"
    # Also where a first try was cut short.
    if python.exists() and subprocess.run([python, "-c", "import torch"],
                                          stderr=subprocess.DEVNULL).returncode == 0:
        return python
    print(f"installing PyTorch into {folder}", file=sys.stderr)
    for command in ([sys.executable, "-m", "venv", folder],
                    [python, "-m", "pip", "-q", "install", *options, "torch", "numpy"]):
        if subprocess.run(command).returncode != 0:
            sys.exit("PyTorch cannot be installed: no comparison was made")
    return python


def processor():
    found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else "unknown processor"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build",
                        help="with MOEKIT_BUILD_BENCHMARKS")
    parser.add_argument("--env", type=pathlib.Path, default=ROOT / "build-pytorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--pip-options", default="", help="such as --no-deps")
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return run_pytorch(options.inside[0], options.inside[1], int(options.inside[2]))
    if options.rounds < 1 or not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", options.threads):
        parser.error("--rounds and --threads: at least 1")
    if not (options.build / "bin" / "moekit_benchmark").exists():
        parser.error(f"{options.build}/bin/moekit_benchmark: not built; configure with "
                     "-DMOEKIT_BUILD_BENCHMARKS=ON")
    python = environment(options.env, options.pip_options.split())
    print(f"{processor()}, medians of {options.rounds} rounds, ms a step")
    print("| threads | arithmetic | moekit | PyTorch, loop | ratio | grouped | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    version = None
    for threads in map(int, options.threads.split(",")):
        for precision, ours in (("float32", "decoder_moekit"),
                                ("bfloat16", "decoder_moekit_bf16")):
            times = {"ours": [], "loop": [], "grouped": []}
            for _ in range(options.rounds):
                times["ours"].append(moekit(options.build, ours, threads))
                for kind in ("loop", "grouped"):
                    ms, said = pytorch(python, kind, precision, threads)
                    if ms is None:
                        print(f"{kind}, {precision}: {said}", file=sys.stderr)
                    else:
                        times[kind].append(ms)
                        version = said
            own = statistics.median(times["ours"])
            cells = [str(threads), precision, f"{own:.0f}"]
            for kind in ("loop", "grouped"):
                there = statistics.median(times[kind]) if times[kind] else None
                cells += [f"{there:.0f}", f"{there / own:.2f}"] if there else ["-", "-"]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(f"PyTorch {version}" if version else "PyTorch did not run")


if __name__ == "__main__":
    main()
