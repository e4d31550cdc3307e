"""Results live in memory that earlier results had; nobody may notice but the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastconv import conv2d
from fastconv.backends import native

pytestmark = pytest.mark.skipif(not native.keeps_results(), reason="needs torch >= 2.11")


def convolved(seed: int) -> tuple[Tensor, Tensor]:
    """A result of 100 KB, and what it should be."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 3, 40, 40, generator=generator)
    weight = torch.randn(16, 3, 3, 3, generator=generator)
    return conv2d(x, weight, padding=1, backend="native"), F.conv2d(x, weight, padding=1)


def test_a_block_comes_back_when_its_tensor_dies() -> None:
    native.kept_bytes(release=True)
    first, _ = convolved(0)
    address = first.data_ptr()
    assert native.kept_bytes() == 0
    del first
    assert native.kept_bytes() >= 16 * 40 * 40 * 4
    second, expected = convolved(1)
    assert second.data_ptr() == address
    assert torch.allclose(second, expected, atol=1e-5)


def test_a_view_keeps_its_block() -> None:
    result, expected = convolved(2)
    row, wanted = result[0, 3], expected[0, 3]
    del result
    others = [convolved(seed) for seed in range(3, 9)]
    assert torch.allclose(row, wanted, atol=1e-5)
    assert all(torch.allclose(got, right, atol=1e-5) for got, right in others)


def test_results_alive_together_do_not_share_memory() -> None:
    alive = [convolved(seed) for seed in range(20)]
    assert len({got.data_ptr() for got, _ in alive}) == 20
    assert all(torch.allclose(got, right, atol=1e-5) for got, right in alive)


def test_a_result_can_be_written_saved_and_passed_on(tmp_path) -> None:
    result, expected = convolved(4)
    result.mul_(2).add_(1)
    torch.save(result, tmp_path / "result.pt")
    assert torch.equal(torch.load(tmp_path / "result.pt"), result)
    assert torch.allclose(result, 2 * expected + 1, atol=1e-5)
    assert torch.equal(torch.from_numpy(result.numpy().copy()), result)


def test_threads_take_and_give_back_at_once() -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for step in range(30):
            got, right = convolved(100 * seed + step)
            if not torch.allclose(got, right, atol=1e-5):
                wrong.append(step)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("megabytes", "least", "most"), [("0", 0, 0), ("1", 1, 1 << 20)])
def test_the_environment_limits_what_is_kept(megabytes: str, least: int, most: int) -> None:
    program = (
        "import torch, fastconv; from fastconv.backends import native\n"
        "for size in (20, 40, 60, 80, 100, 120):\n"
        "    x = torch.ones(1, 3, size, size)\n"
        "    y = fastconv.conv2d(x, torch.ones(16, 3, 3, 3), backend='native'); del y\n"
        "print(native.kept_bytes())"
    )
    environment = {**os.environ, "FASTCONV_KEEP_MB": megabytes}
    run = [sys.executable, "-c", program]
    kept = int(subprocess.run(run, env=environment, capture_output=True, check=True).stdout)
    assert least <= kept <= most


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_what_is_kept_makes_room_for_fresh_memory() -> None:
    program = """
import resource, torch
from fastconv import conv2d
from fastconv.backends import native
torch.set_num_threads(1)
x, w = torch.zeros(1, 1, 1024, 1024), torch.zeros(64, 1, 1, 1)
warm = conv2d(x, w, backend="native")
del warm
assert native.kept_bytes() >= 256 << 20
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + (128 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
w = torch.zeros(72, 1, 1, 1)  # 288 MB: more than is left, less than is left and kept
print(tuple(conv2d(x, w, backend="native").shape))
"""
    environment = {**os.environ, "FASTCONV_KEEP_MB": "1024"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 72, 1024, 1024)", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="asks for its memory as Linux tells it")
@pytest.mark.parametrize("algo", ["auto", "f4"])
def test_thirty_thousand_calls_leave_nothing_behind(algo: str) -> None:
    program = f"""
import resource, torch
from fastconv import conv2d
x, w = torch.ones(1, 8, 4, 4, requires_grad=True), torch.ones(8, 8, 3, 3, requires_grad=True)
def held_after(calls):
    for _ in range(calls):
        conv2d(x, w, padding=1, backend="native", algo={algo!r}).sum().backward()
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
first = held_after(2000)
print(held_after(10000) - first)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert int(done.stdout) < 256 << 10, done.stderr  # 8 bytes a call and operation would be 240 KB


@pytest.mark.skipif(sys.platform != "linux", reason="asks for its memory as Linux tells it")
def test_twenty_thousand_new_geometries_leave_nothing_behind() -> None:
    program = """
import resource, torch
from fastconv.backends import native
from fastconv.geometry import geometry_of
def held_after(first, last):
    for width in range(first, last):
        g = geometry_of((1, 8, 9, width), (8, 8, 3, 3))
        native._explain_once("forward", g, False, False, "auto")
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
first = held_after(10, 28000)
print(held_after(28000, 48000) - first)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert int(done.stdout) < 384 << 10, done.stderr  # 50 bytes each would be 1 MB


def test_a_result_cannot_be_made_larger_in_place_which_torch_says() -> None:
    result, _ = convolved(5)
    result.resize_(1, 8, 40, 40)
    with pytest.raises(RuntimeError, match="resize"):
        result.resize_(1, 99, 40, 40)
