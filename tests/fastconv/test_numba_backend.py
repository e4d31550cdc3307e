"""What only the numba backend promises: small buffers, threads of its own, code kept on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn import functional as F

import fastconv

pytest.importorskip("numba", reason="numba is not installed")

from fastconv.backends import numba as backend
from fastconv.geometry import ConvGeometry, geometry_of

MEGABYTE = 1 << 20

# name: input, weight, stride, padding, dilation, groups
CASES = {
    "one output row whose columns would take 58 MB": (
        (1, 4, 3, 200_000),
        (4, 4, 3, 3),
        1,
        1,
        1,
        1,
    ),
    "a row longer than a stretch, one output": ((1, 2, 3, 5000), (1, 2, 3, 3), 1, 1, 1, 1),
    "blocks that end inside of a row": ((2, 5, 37, 41), (7, 5, 3, 3), 1, 1, 1, 1),
    "more outputs than one unit takes": ((1, 3, 9, 9), (1100, 3, 1, 1), 1, 0, 1, 1),
    "more channels x taps than one depth": ((1, 50, 9, 9), (9, 50, 3, 3), 1, 1, 1, 1),
    "stride wider than the kernel: pixels that nothing sees": (
        (1, 4, 13, 17),
        (6, 4, 2, 1),
        3,
        0,
        1,
        1,
    ),
    "stride and dilation with a common divisor": ((1, 4, 20, 21), (6, 4, 3, 3), 2, 3, 2, 1),
    "padding wider than the kernel": ((1, 4, 5, 6), (6, 4, 2, 3), (2, 1), (5, 4), 1, 1),
    "depthwise": ((1, 64, 40, 40), (64, 1, 3, 3), 1, 1, 1, 64),
    "depthwise, strided": ((2, 8, 41, 40), (16, 1, 5, 3), (2, 3), 2, 1, 8),
    "groups of nine outputs": ((1, 6, 33, 20), (18, 3, 3, 3), 1, 1, 1, 2),
}


def geometry(case: str) -> ConvGeometry:
    return geometry_of(*CASES[case])


def tensors(g: ConvGeometry, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (g.input_shape, g.weight_shape, g.output_shape)
    x, weight, dy = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    return x, weight, dy


def torch_backward(dy, x, weight, g):
    padding = (g.padding[0], g.padding[2])
    wanted = (True, True, False)
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, g.stride, padding, g.dilation, False, (0, 0), g.groups, wanted
    )


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    assert ours.shape == reference.shape
    return float((ours - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("case", CASES)
def test_every_way_to_cut_the_work_gives_torchs_result(case, threads, monkeypatch):
    monkeypatch.setattr(backend, "_threads", lambda flops: threads)
    g = geometry(case)
    x, weight, dy = tensors(g, torch.float64)
    bias = torch.arange(g.c_out, dtype=torch.float64)
    padding = (g.padding[0], g.padding[2])
    y = F.conv2d(x, weight, bias, g.stride, padding, g.dilation, g.groups)
    dx, dw, _ = torch_backward(dy, x, weight, g)
    assert relative_error(backend.forward(x, weight, bias, g), y) < 1e-12
    assert relative_error(backend.grad_input(dy, weight, g), dx) < 1e-12
    assert relative_error(backend.grad_weight(dy, x, g), dw) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "g",
    [
        geometry_of((1, 64, 1024, 1024), (64, 64, 3, 3), 1, 1),
        geometry_of((1, 64, 1, 200_000), (64, 64, 1, 9), 1, (0, 4)),
        geometry_of((1, 2048, 7, 7), (4096, 2048, 3, 3), 1, 1),
        geometry_of((1, 3, 2048, 2048), (2, 3, 7, 7), 2, 3),
    ],
    ids=["a large picture", "one endless row", "many channels", "few outputs"],
)
def test_the_buffers_of_a_thread_stay_below_32_megabytes(g, dtype, monkeypatch):
    sizes = []

    def note(kernel, arguments, scratch, units, threads):
        sizes.append(sum(scratch) * dtype.itemsize)

    monkeypatch.setattr(backend, "_run", note)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    expanded = [torch.zeros((), dtype=dtype).expand(s) for s in (g.input_shape, g.output_shape)]
    monkeypatch.setattr(backend, "_array", lambda tensor: tensor.numpy())
    for operation, arguments in (
        (backend.forward, (expanded[0], torch.zeros((), dtype=dtype).expand(g.weight_shape), None)),
        (backend.grad_input, (expanded[1], torch.zeros((), dtype=dtype).expand(g.weight_shape))),
        (backend.grad_weight, (expanded[1], expanded[0])),
    ):
        operation(*arguments, g)
    assert 0 < max(sizes) <= 32 * MEGABYTE


def test_it_takes_as_many_threads_as_torch_is_given(monkeypatch):
    seen = []
    run = backend._run

    def note(*arguments):
        seen.append(arguments[-1])
        run(*arguments)

    monkeypatch.setattr(backend, "_run", note)
    g = geometry_of((1, 16, 80, 80), (32, 16, 3, 3), 1, 1)
    x, weight, _ = tensors(g, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        backend.forward(x, weight, None, g)
        torch.set_num_threads(3)
        backend.forward(x, weight, None, g)
    finally:
        torch.set_num_threads(before)
    assert max(seen[:2]) == 1
    assert max(seen[2:]) == 3


def test_a_result_is_the_same_every_time():
    g = geometry_of((2, 3, 90, 90), (8, 3, 3, 3), 1, 1)
    x, _, dy = tensors(g, torch.float32)
    first = backend.grad_weight(dy, x, g)
    assert all(torch.equal(backend.grad_weight(dy, x, g), first) for _ in range(10))


def test_several_python_threads_may_call_at_once():
    g = geometry_of((1, 16, 80, 80), (32, 16, 3, 3), 1, 1)
    x, weight, dy = tensors(g, torch.float64)

    def both(_: int) -> tuple[torch.Tensor, torch.Tensor]:
        return backend.forward(x, weight, None, g), backend.grad_weight(dy, x, g)

    y, dw = both(0)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(both, range(24)))
    assert all(torch.equal(a, y) and torch.equal(b, dw) for a, b in results)


def test_an_error_in_a_thread_reaches_the_caller():
    def kernel(array, units):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        backend._run(kernel, (torch.zeros(1).numpy(),), (), 8, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_with_threads_of_its_own():
    code = """
import os, torch, fastconv
x, w = torch.randn(1, 16, 80, 80), torch.randn(32, 16, 3, 3)
y = fastconv.conv2d(x, w, backend="numba")
torch.get_num_threads = lambda: 2
y = fastconv.conv2d(x, w, backend="numba")
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(fastconv.conv2d(x, w, backend="numba"), y) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    assert run_python(code).returncode == 0


def test_the_second_process_finds_the_code_on_disk(tmp_path):
    code = "from fastconv.backends import numba; print(numba.warm_up())"
    first, second = (
        float(run_python(code, NUMBA_CACHE_DIR=str(tmp_path)).stdout) for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))
    assert second < first / 2


def test_it_works_where_no_code_can_be_kept(tmp_path):
    code = """
import numba.core.caching as caching
def nowhere(*arguments): return None
for kind in vars(caching).values():
    if isinstance(kind, type) and issubclass(kind, caching._CacheLocator):
        kind.from_function = nowhere
import torch, fastconv
y = fastconv.conv2d(torch.ones(1, 1, 5, 5), torch.ones(4, 1, 3, 3), backend="numba")
assert float(y.min()) == float(y.max()) == 9
"""
    assert run_python(code).returncode == 0


def test_warming_up_compiles_everything():
    backend.warm_up()
    compiled = {k: len(getattr(backend.kernels, k).signatures) for k in backend.KERNELS}
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(1, 4, 9, 9, dtype=dtype, requires_grad=True)
        for outputs, groups in ((4, 4), (8, 1)):
            weight = torch.randn(outputs, 4 // groups, 3, 3, dtype=dtype, requires_grad=True)
            y = fastconv.conv2d(x, weight, stride=2, groups=groups, backend="numba")
            y.sum().backward()
    after = {k: len(getattr(backend.kernels, k).signatures) for k in backend.KERNELS}
    assert after == compiled


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
