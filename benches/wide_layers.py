"""Stage 2 on wide layers: ours, the published procedure written plainly, and one Gram matrix.

    python benches/wide_layers.py --widths 1,2,4 --threads 1
    python benches/wide_layers.py --widths 8 --plain-gammas 0.1 --out wide.json
    python benches/wide_layers.py --linear 16384x4096 --plain-gammas ""

What is timed is stage 2 for the paper's seven γ with λ = 0.5: from the backdoored weights and the
ranking to each γ's fused weights, which are dropped before the next. Networks are PreAct-ResNet18
with all channels multiplied. Weights are He's initial ones and NWCs lognormal, by a seed.

ours   What default mode does: transports of all spaces of channels, which are streams and what lies
       between two layers, with the distances of all layers that write them, shortcuts too; then
       `fused_tensors`, which hands over a tensor at a time.
plain  For each γ a pruned and a fused copy of the network; for each layer torch.cdist, POT's emd
       (numItermax 1e9) and dense products with n x n maps. It repeats everything for each γ, so
       with --plain-gammas it may be timed on some of them; its total is then scaled, and marked ~.
gram   torch.mm(X, X.T) of each of the layers, once.

Each runs in a process of its own, for its peak memory, with the same number of threads. Times are
CPU seconds of all threads, which other work on the machine disturbs less; the wall's are told too.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

GAMMAS = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
LAMBDA = 0.5
NWC_SPREAD = 0.5  # standard deviation of the logarithms
CHANNELS = (64, 64, 128, 256, 512)

Facts = dict[str, Any]


class Subject:
    """A network, the names of the layers that count, and the spaces of the channels they make."""

    def __init__(self, kind: str, prefix: str) -> None:
        import torch
        from torch import nn

        from otbr_fast.channels import channel_graph
        from otbr_fast.models import PreActResNet
        from otbr_fast.repair import conv_chain, transported_spaces

        linear = "x" in kind
        with torch.device("meta"):
            if linear:
                n, d = map(int, kind.split("x"))
                empty: nn.Module = nn.Sequential(nn.Linear(d, n), nn.ReLU(), nn.Linear(n, 10))
            else:
                widths = tuple(int(kind) * width for width in CHANNELS)
                empty = PreActResNet((2, 2, 2, 2), widths, in_channels=3, num_classes=10)
        self.model = empty.to_empty(device="cpu").eval()
        generator = torch.Generator().manual_seed(0)
        for values in [*self.model.parameters(), *self.model.buffers()]:
            if values.ndim > 1:
                nn.init.kaiming_normal_(values, generator=generator)
            else:
                nn.init.ones_(values)
        names = ["0"] if linear else [layer.name for layer in conv_chain(self.model).layers]
        self.layers = [name for name in names if name.startswith(prefix)]
        example = torch.zeros(2, d) if linear else torch.zeros(2, 3, 32, 32)
        spaces = transported_spaces(channel_graph(self.model, [example]))
        self.spaces = tuple(space for space in spaces if space.name.startswith(prefix))

    def weight(self, name: str) -> Any:
        return self.model.get_parameter(f"{name}.weight").detach()


def ranking(sizes: dict[str, int]) -> dict[str, Any]:
    """Draw NWCs."""
    rng = np.random.default_rng(0)
    return {name: rng.lognormal(0, NWC_SPREAD, size) for name, size in sizes.items()}


def ours(subject: Subject, gammas: tuple[float, ...], threads: int) -> Iterator[str]:
    """Yield the name of each part when it is done."""
    from otbr_fast.repair import (
        RepairConfig,
        SpaceStages,
        SpaceTransport,
        fused_tensors,
        select_pruned,
    )

    config = RepairConfig(gamma=gammas[0], lambda_=LAMBDA, n_threads=threads)
    nwc = ranking({space.name: space.size for space in subject.spaces})
    selections = [select_pruned(nwc, gamma) for gamma in gammas]
    stages, state = SpaceStages(subject.spaces), subject.model.state_dict()
    transported = stages.transports(subject.model, selections, nwc, config, None)
    yield "transport"
    for transports in transported:
        along = [each for each in transports if isinstance(each, SpaceTransport)]
        for fused in fused_tensors(state, state, along, LAMBDA, n_threads=threads):
            del fused
    yield "weights"


def plain(subject: Subject, gammas: tuple[float, ...], threads: int) -> Iterator[str]:
    """Do what is published: nothing is shared, and maps are dense."""
    import ot as pot
    import torch

    from otbr_fast.repair import mass, select_pruned

    nwc = ranking({name: len(subject.weight(name)) for name in subject.layers})
    for gamma in gammas:
        masks = select_pruned(nwc, gamma)
        pruned, fused = copy.deepcopy(subject.model), copy.deepcopy(subject.model)
        before = None
        for name, mask in masks.items():
            W1, W2 = pruned.get_parameter(f"{name}.weight").detach(), subject.weight(name)
            W1[torch.from_numpy(mask)] = 0
            if before is None and not mask.any():
                continue
            n = len(W2)
            M = torch.cdist(W1.reshape(n, -1), W2.reshape(n, -1))
            yield "distances"
            beta = mass(name, nwc[name], "default")
            P = pot.emd(np.full(n, 1 / n), beta, M.double().numpy(), numItermax=1_000_000_000)
            del M
            yield "emd"
            T = torch.from_numpy(P / beta).float()
            if before is not None:
                W1 = torch.einsum("oihw,ij->ojhw", W1, before)
            moved = (T.T @ W1.reshape(n, -1)).reshape(W2.shape)
            fused.get_parameter(f"{name}.weight").data = LAMBDA * moved + (1 - LAMBDA) * W2
            before = T
            yield "products"


def gram(subject: Subject, gammas: tuple[float, ...], threads: int) -> Iterator[str]:
    """Compute each layer's Gram matrix."""
    import torch

    for name in subject.layers:
        X = subject.weight(name).flatten(1)
        torch.mm(X, X.T)
    yield "products"


CONTESTANTS: dict[str, Callable[[Subject, tuple[float, ...], int], Iterator[str]]] = {
    "gram": gram,
    "ours": ours,
    "plain": plain,
}


def time_it(
    who: str, kind: str, prefix: str, gammas: tuple[float, ...], threads: int, out: Connection
) -> None:
    """Run a contestant in this process and send its facts."""
    import torch

    torch.set_num_threads(threads)
    subject = Subject(kind, prefix)
    size = sum(values.nbytes for values in subject.model.parameters())
    parts: dict[str, float] = {}
    with torch.no_grad():
        wall, start = time.perf_counter(), time.process_time()
        last = start
        for part in CONTESTANTS[who](subject, gammas, threads):
            now = time.process_time()
            parts[part] = parts.get(part, 0.0) + now - last
            last = now
        wall = time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    out.send(
        {
            "who": who,
            "kind": kind,
            "layers": prefix,
            "gammas": gammas,
            "threads": threads,
            "seconds": last - start,
            "wall_seconds": wall,
            "parts": parts,
            "peak_bytes": peak,
            "weights_bytes": size,
            "load": os.getloadavg()[0],
        }
    )


def alone(*task: Any) -> Facts:
    """Run `time_it` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=time_it, args=(*task, sender))
    process.start()
    sender.close()
    try:
        facts: Facts = receiver.recv()
    except EOFError:
        facts = {"who": task[0], "kind": task[1], "failed": True}
    process.join()
    return facts


@contextmanager
def single_blas_threads(threads: int) -> Iterator[None]:
    """Let new processes start with so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def scaled(facts: Facts) -> float:
    """Seconds for all γ: plain repeats everything for each."""
    factor = len(GAMMAS) / len(facts["gammas"]) if facts["who"] == "plain" else 1.0
    return float(facts["seconds"]) * factor


def table(rows: list[Facts]) -> str:
    """One line for each network: times, memory, and what was wanted of them."""
    lines = [
        "| layers | weights | gram | ours | ours / gram | plain | plain / ours | peak | plain's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys((row["kind"], row.get("layers", "")) for row in rows):
        of = {row["who"]: row for row in rows if (row["kind"], row.get("layers", "")) == kind}
        mine, yard, peer = of["ours"], of["gram"], of.get("plain")
        cells = [
            (f"{kind[0]}x" if kind[0].isdigit() else kind[0]) + (f" {kind[1]}" if kind[1] else ""),
            f"{mine['weights_bytes'] / 2**30:.2f} GiB",
            f"{yard['seconds']:.2f} s",
            f"{mine['seconds']:.2f} s",
            f"{mine['seconds'] / yard['seconds']:.2f}",
        ]
        if peer is None or "failed" in peer:
            cells += ["not run" if peer is None else "failed", "", gib(mine), ""]
        else:
            mark = "" if len(peer["gammas"]) == len(GAMMAS) else "~"
            ratio = scaled(peer) / mine["seconds"]
            cells += [f"{mark}{scaled(peer):.2f} s", f"{mark}{ratio:.1f}", gib(mine), gib(peer)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gib(facts: Facts) -> str:
    """Return a process's peak memory."""
    return f"{facts['peak_bytes'] / 2**30:.2f} GiB"


def main() -> None:
    """Run what is asked for."""

    def words(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--widths", type=words, default=[], help="1,2,4,8 times the usual")
    parser.add_argument("--linear", type=words, default=[], help="as 16384x4096: neurons x inputs")
    parser.add_argument("--layers", default="", help="only those whose name begins so")
    parser.add_argument("--plain-gammas", type=words, default=[str(gamma) for gamma in GAMMAS])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="add the facts to this JSON file")
    args = parser.parse_args()
    plain_gammas = tuple(float(word) for word in args.plain_gammas)
    rows: list[Facts] = []
    with single_blas_threads(args.threads):
        for kind in [*args.widths, *args.linear]:
            for who in CONTESTANTS:
                gammas = plain_gammas if who == "plain" else GAMMAS
                if not gammas:
                    continue
                facts = alone(who, kind, args.layers, gammas, args.threads)
                print(json.dumps(facts), flush=True)
                rows.append(facts)
    print(table(rows))
    if args.out:
        old = json.loads(args.out.read_text()) if args.out.exists() else []
        args.out.write_text(json.dumps(old + rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
