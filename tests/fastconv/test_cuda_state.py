"""Which CUDA there is and what is said where there is none; no card is needed."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator

import pytest
import torch

from fastconv import cli, conv2d, precision, registry
from fastconv.backends import native_cuda
from fastconv.errors import ArgumentError, BackendUnavailableError, OutOfMemoryError
from fastconv.registry import load, resolve


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    def forget() -> None:
        registry._cached_choice.cache_clear()
        native_cuda.against_card.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def cuda_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch, cuda_torch: None) -> None:
    """As if fastconv._cuda were built and loaded."""
    native = load("native")
    monkeypatch.setattr(native, "WITHOUT_CUDA", "")
    monkeypatch.setattr(native, "DEVICES", frozenset({"cpu", "cuda"}))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, kernels: None) -> Callable[..., None]:
    def put(capability: tuple[int, int], name: str = "a card") -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)

    return put


def test_a_cpu_only_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "torch is built without CUDA" in native_cuda.load()


def test_a_fastconv_without_kernels_is_told(
    monkeypatch: pytest.MonkeyPatch, cuda_torch: None
) -> None:
    monkeypatch.setitem(sys.modules, "fastconv._cuda", None)
    assert "FASTCONV_CUDA=1 pip install" in native_cuda.load()
    assert "nvcc of CUDA 13" in native_cuda.load()


def test_kernels_that_do_not_load_are_told(
    monkeypatch: pytest.MonkeyPatch, cuda_torch: None
) -> None:
    def broken(name: str) -> types.ModuleType:
        raise ImportError(f"{name}: undefined symbol")

    monkeypatch.setattr(native_cuda.importlib, "import_module", broken)
    assert native_cuda.load() == (
        "its compiled module _cuda cannot be loaded (fastconv._cuda: undefined symbol)"
    )


def test_kernels_that_load_leave_no_reason(
    monkeypatch: pytest.MonkeyPatch, cuda_torch: None
) -> None:
    monkeypatch.setitem(sys.modules, "fastconv._cuda", types.ModuleType("fastconv._cuda"))
    monkeypatch.setattr(native_cuda, "register_fakes", lambda: None)
    assert native_cuda.load() == ""


def test_a_named_backend_says_why_it_does_not_run_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    native = load("native")
    monkeypatch.setattr(native, "DEVICES", frozenset({"cpu"}))
    monkeypatch.setattr(native, "WITHOUT_CUDA", "the reason")
    with pytest.raises(BackendUnavailableError) as caught:
        resolve("native", "cuda:0", torch.float32)
    assert str(caught.value) == (
        "conv2d: backend 'native' runs on cpu, input is on 'cuda:0': the reason; "
        "move it, or use backend='torch'"
    )
    assert resolve("auto", "cuda:0", torch.float32)[0] is load("torch")


def test_a_card_that_is_too_old_is_told_and_auto_takes_torch(card: Callable[..., None]) -> None:
    card((7, 0), "Tesla V100")
    with pytest.raises(
        BackendUnavailableError, match=r"compute capability 7\.5 or newer, Tesla V100 has 7\.0"
    ):
        resolve("native", "cuda:0", torch.float32)
    assert resolve("auto", "cuda:0", torch.float32)[0] is load("torch")


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0), (12, 0)])
def test_auto_takes_native_on_a_card_that_is_new_enough(
    card: Callable[..., None], capability: tuple[int, int]
) -> None:
    card(capability)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        assert resolve("auto", "cuda:1", dtype) == (load("native"), dtype)
    assert resolve("auto", "cpu", torch.float16) == (load("native"), torch.float32)


def test_tensors_on_two_devices_are_told() -> None:
    x, w = torch.zeros(1, 2, 4, 4, device="meta"), torch.zeros(2, 2, 3, 3)
    with pytest.raises(ArgumentError, match="weight expects input's device 'meta', got 'cpu'"):
        conv2d(x, w)


def test_memory_that_runs_out_on_a_card_is_told_and_the_process_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    native, x, w = load("native"), torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, 3, 3)

    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 TiB.")

    with monkeypatch.context() as patched:
        patched.setattr(native.Native, "forward", full)
        with pytest.raises(OutOfMemoryError, match="not enough memory for ConvGeometry"):
            conv2d(x, w, backend="native")
    assert conv2d(x, w, backend="native").shape == (1, 2, 2, 2)


def test_info_says_why_there_are_no_kernels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load("native"), "WITHOUT_CUDA", "the reason")
    assert cli.main(["info"]) == 0
    assert "CUDA kernels:    none: the reason\n" in capsys.readouterr().out


def test_info_says_which_card_is_too_old(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, card: Callable[..., None]
) -> None:
    card((6, 1), "an old card")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert cli.main(["info"]) == 0
    expected = (
        "not on cuda:0: its kernels need compute capability 7.5 or newer, an old card has 6.1"
    )
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(("device", "told"), [("cuda", "no such device"), ("tpu", "cpu or cuda")])
def test_check_on_a_device_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, device: str, told: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["check", "--device", device]) == 2
    assert told in capsys.readouterr().err


def test_check_passes_over_backends_that_do_not_know_the_device(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        "fastconv.tools.checking.check_backend", lambda name, *_: asked.append(name) or []
    )
    assert cli.main(["check", "--device", "cuda", "--cases", "1"]) == 0
    assert "naive: runs on cpu\n" in capsys.readouterr().out
    assert "torch" in asked
    assert not {"naive", "numba"} & set(asked)


def test_info_says_the_precision_where_there_are(
    capsys: pytest.CaptureFixture[str], kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision.CHOICE, "chosen", "tf32")
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "CUDA kernels:    there; float32 in tf32\n" in out
    assert "own kernels chosen for this processor; on cpu, cuda\n" in out
