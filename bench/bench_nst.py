"""Style transfer as a user feels it: nst beside the plain PyTorch way (plain_transfer.py).

Same network (VGG19 in full width to conv5_1, random weights), same pictures, same losses.  The
losses of both are compared along the plain way's run before anything is timed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from nst_contenders import (
    CHANNELS_LAST,
    NST,
    TORCH,
    coarse_to_fine,
    nst_transfer,
    picture,
    transfer,
)
from plain_transfer import PlainTransfer

from nst.networks.builtin import builtin_state
from nst.networks.weights import Weights
from nst.observers.profile import Profile, clock_for, profile
from nst.optimizers.base import Spent
from nst.samples import SAMPLES

HERE = Path(__file__).parent
TABLE = "Style transfer"
EVALUATIONS, SIZE = 300, 512


@pytest.mark.parametrize("contender", [TORCH, CHANNELS_LAST, NST])
@pytest.mark.parametrize("size", [256, 512, 1024])
def bench_evaluation(size, contender, benchmark) -> None:
    """Loss, gradient and one move of L-BFGS, whose memory is still short for all of them."""
    benchmark.group = f"style transfer @{size}"
    benchmark.extra_info.update(
        table=f"{TABLE}, one evaluation", row=f"{size} px", column="step", contender=contender
    )
    running = transfer(contender, size)
    if contender == TORCH and size == 256:
        agree(running, size)
    for _ in range(3):
        running.step()
    benchmark.pedantic(running.step, rounds=5 if contender != NST else 15)


def agree(plain: PlainTransfer, size: int, steps: int = 20) -> None:
    """The losses are the same within 1e-3 wherever the plain way comes."""
    nst = nst_transfer(plain.x.detach(), plain.style_picture)
    for _ in range(steps):
        with torch.no_grad():
            ours = nst.losses.objective(plain.x.clamp(0, 1)).values["total"]
        theirs = plain.step()
        assert abs(ours - theirs) <= 1e-3 * theirs, f"{ours} is not {theirs} at {size} px"


def bench_where_a_step_s_time_goes(benchmark, fact) -> None:
    """nst's own step, layer by layer: unfused on torch's convolutions, and on the native stack."""
    found = {TORCH: _profile("torch", rounds=3)}

    def native() -> None:
        """Of five profiles the one with the middle share: the machine's memory is shared."""
        several = [_profile("native", rounds=10) for _ in range(5)]
        found[NST] = sorted(several, key=_outside)[2]

    benchmark.pedantic(native, rounds=1)
    rows = dict(_side_by_side(found[TORCH], found[NST]))
    outside = {name: f"{_outside(part):.1%}" for name, part in found.items()}
    rows["share outside of the network's layers"] = outside
    first, *rest = rows
    fact(f"Where a step's milliseconds go, {SIZE} px, forward + backward", first, **rows[first])
    benchmark.extra_info["more"] = {row: rows[row] for row in rest}


def _outside(found: Profile) -> float:
    return 1 - found.convolutions / found.total


def _profile(backend: str, rounds: int) -> Profile:
    content, style = picture("scene", SIZE), picture("swirls", SIZE)
    running = nst_transfer(content, style, backend=backend)
    for _ in range(rounds):  # fills L-BFGS's memory
        running.step()
    clock, running.optimizer.spent = clock_for(running.network), Spent()
    began = time.perf_counter()
    for _ in range(rounds):
        running.step()
    seconds = time.perf_counter() - began
    return profile(running.network, clock, running.optimizer.spent, seconds, rounds)


def _side_by_side(plain: Profile, fused: Profile) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of the fused profile, with the sums of what they are made of beside them."""
    left = iter(plain.layers.items())
    for name, part in fused.layers.items():
        own = 0.0
        for layer, seconds in left:
            own += sum(seconds)
            if layer == name.split(" .. ")[-1]:
                break
        yield name, _cells(plain, own, fused, sum(part))
    for name, part in fused.moments.items():
        yield name, _cells(plain, sum(plain.moments[name]), fused, sum(part))
    for name in ("losses", "moving", "other", "total"):
        values = [_seconds_of(found, name) for found in (plain, fused)]
        yield name, _cells(plain, values[0], fused, values[1])


def _seconds_of(found: Profile, name: str) -> float:
    value = getattr(found, name)
    return sum(value) if isinstance(value, tuple) else value


def _cells(plain: Profile, left: float, fused: Profile, right: float) -> dict[str, str]:
    cells = (1e3 * left / plain.evaluations, 1e3 * right / fused.evaluations)
    return dict(zip((TORCH, NST), (f"{cell:.1f}" for cell in cells), strict=True))


def bench_built_in_network(benchmark, fact) -> None:
    """A step with the built-in network, which has half of VGG19's channels, beside VGG19's."""
    content, style = picture("scene", SIZE), picture("swirls", SIZE)
    full = nst_transfer(content, style)
    half = nst_transfer(content, style, found=Weights("builtin", builtin_state(), "built in"))
    for running in (full, half):
        for _ in range(3):
            running.step()
    benchmark.pedantic(half.step, rounds=15)
    of_full = statistics.median(_seconds(full.step) for _ in range(15))
    of_half = benchmark.stats.stats.median
    words = f"{of_half * 1e3:.0f} of {of_full * 1e3:.0f} ({of_half / of_full:.2f})"
    fact(TABLE, f"built-in network: milliseconds of a step, of VGG19's, {SIZE} px", nst=words)


def bench_time_to_quality(benchmark, fact) -> None:
    """Plain PyTorch's losses are computed by the fast stack, which gives the same ones; its
    time is that of its evaluations, measured, times their number.  L-BFGS's memory makes them
    slower while it fills, which takes 100 of the 300."""
    plain = transfer(TORCH, SIZE)
    start = plain.x.detach().clone()
    plain.step()
    empty = statistics.median(_seconds(plain.step) for _ in range(3))
    plain.fill_history()
    full = statistics.median(_seconds(plain.step) for _ in range(3))
    each = empty / 6 + full * 5 / 6
    curve = _plain_curve(start)
    del plain

    def reach() -> dict[float, float]:
        """Seconds until each of the two losses; plain L-BFGS ends higher than it has been."""
        began, seconds = time.perf_counter(), {}
        wanted = sorted({curve[-1], min(curve)})
        for loss, _ in coarse_to_fine(SIZE, EVALUATIONS):
            while wanted and loss <= wanted[-1]:
                seconds[wanted.pop()] = time.perf_counter() - began
            if not wanted:
                break
        return seconds

    found, theirs = benchmark.pedantic(reach, rounds=1), EVALUATIONS * each
    for about, loss in (("last", curve[-1]), ("lowest", min(curve))):
        words = (
            f"{found[loss]:.1f} ({theirs / found[loss]:.1f}x)" if loss in found else "not reached"
        )
        goal = f"{about} loss of {EVALUATIONS} plain evaluations ({loss:.3f})"
        note = f"seconds to the {goal}, {SIZE} px"
        row = {TORCH: f"{theirs:.0f} ({EVALUATIONS} x {each:.2f})", NST: words}
        if about == "last":
            fact(TABLE, note, **row)
        else:
            benchmark.extra_info["more"] = {note: row}


def _plain_curve(start: torch.Tensor) -> list[float]:
    fast = transfer(NST, SIZE)
    plain = PlainTransfer.from_loss(lambda x: fast.objective(x).total, start)
    return [plain.step() for _ in range(EVALUATIONS)]


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def bench_peak_memory(benchmark, fact) -> None:
    def measure() -> dict[str, int]:
        program = [sys.executable, str(HERE / "nst_contenders.py"), "memory"]
        return {c: int(_run([*program, c, str(SIZE)])) for c in (TORCH, CHANNELS_LAST, NST)}

    peaks = benchmark.pedantic(measure, rounds=1)
    words = {name: f"{peak / 2**20:.0f}" for name, peak in peaks.items()}
    words[NST] += f" ({peaks[NST] / peaks[TORCH]:.2f}x)"
    fact(TABLE, f"peak memory in MB, the process as a whole, {SIZE} px", **words)


def bench_stylize(benchmark, fact, tmp_path) -> None:
    for name in ("scene", "swirls"):
        SAMPLES[name]((512, 384), 0).save(tmp_path / f"{name}.png")
    command = [sys.executable, "-m", "nst", "stylize", "scene.png", "swirls.png", "--network"]
    command += ["builtin", "-o", "out.png"]
    benchmark.pedantic(lambda: _run(command, tmp_path), rounds=1)
    fact(
        TABLE,
        "`nst stylize`, 512 px, default quality, built-in network: seconds in all",
        nst=f"{benchmark.stats.stats.median:.1f}",
    )
    started = [_started([*command, "-i", "1", "--scales", "1"], tmp_path) for _ in range(5)]
    first, whole = (statistics.median(seconds) for seconds in zip(*started, strict=True))
    benchmark.extra_info["more"] = {
        "the same with one iteration: seconds until it is done": {NST: f"{first:.2f}"},
        "the same with one iteration: seconds in all": {NST: f"{whole:.2f}"},
    }


def _started(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds until a run tells of its first iteration, and until it ends."""
    began = time.perf_counter()
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env=_environment(), **pipes) as run:
        assert run.stderr is not None
        told = b""
        while b"iteration 1/1" not in told:
            piece = os.read(run.stderr.fileno(), 4096)
            assert piece, told.decode()
            told += piece
        first = time.perf_counter() - began
    assert run.returncode == 0
    return first, time.perf_counter() - began


def bench_help(benchmark, fact) -> None:
    benchmark.pedantic(lambda: _run([sys.executable, "-m", "nst", "--help"]), rounds=5)
    fact(TABLE, "`nst --help`: seconds", nst=f"{benchmark.stats.stats.median:.3f}")


def _run(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    """This process's own modules are the ones that the others find."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
