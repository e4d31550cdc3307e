"""The table of backends, the choice among them, and what is said where one is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import fastconv
from fastconv import (
    BackendUnavailableError,
    UnknownBackendError,
    UnsupportedError,
    conv2d,
    plans,
    registry,
    use_backend,
)
from fastconv.backends.base import FLOATS, HALVES, Backend, completed

Change = Callable[..., None]
X, W = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)


class Recorder(SimpleNamespace):
    """A backend that remembers that it was asked."""

    def __init__(self, *, dtypes: frozenset[torch.dtype] = FLOATS, device: str = "cpu") -> None:
        super().__init__(DTYPES=dtypes, DEVICES=frozenset({device}), asked_in=[])
        completed(self, "recorder")

    def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
        self.asked_in.append(x.dtype)
        return x.new_zeros(1, 1, 1, 1)


def forget() -> None:
    """What was found in the table before, in every place that keeps it."""
    registry._cached_choice.cache_clear()
    plans.forget()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Change]:
    """A function that makes backends missing, or replaces them by others, for one test."""
    forget()

    def change(*missing: str, **replaced: Recorder) -> None:
        loaded = {k: v for k, v in registry._loaded.items() if k not in missing}
        monkeypatch.setattr(registry, "_loaded", {**loaded, **replaced})
        for name in missing:
            # None is Python's own mark of a module that must not be imported
            monkeypatch.setitem(sys.modules, registry.TABLE[name].module, None)

    yield change
    forget()


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh Python."""
    command = [sys.executable, "-W", "error", "-c", code]
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def test_all_four_backends_are_available() -> None:
    missing = [info.reason for info in fastconv.backends().values() if not info.available]
    assert not missing, "\n".join(missing)


def test_backends_are_listed_in_the_order_of_auto() -> None:
    assert list(fastconv.backends()) == ["native", "torch", "numba", "naive"]


def test_every_backend_tells_what_it_computes(backend: str) -> None:
    info = fastconv.backends()[backend]
    assert info.name == backend
    assert info.about
    assert info.reason == ""
    assert "cpu" in info.devices
    assert set(info.dtypes) >= FLOATS


# --- use_backend


def test_auto_without_a_choice() -> None:
    assert fastconv.current_backend() == "auto"


def test_use_backend_as_a_statement(backend: str) -> None:
    use_backend(backend)
    assert fastconv.current_backend() == backend
    use_backend(None)
    assert fastconv.current_backend() == "auto"


def test_use_backend_as_a_context(backend: str) -> None:
    with use_backend(backend):
        assert fastconv.current_backend() == backend
        with use_backend("naive"):
            assert fastconv.current_backend() == "naive"
        assert fastconv.current_backend() == backend
    assert fastconv.current_backend() == "auto"


def test_context_ends_with_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), use_backend("naive"):
        raise ZeroDivisionError
    assert fastconv.current_backend() == "auto"


def test_choice_reaches_the_convolution(without: Change) -> None:
    chosen = Recorder()
    without(naive=chosen)
    with use_backend("naive"):
        conv2d(X, W)
    assert chosen.asked_in == [torch.float32]
    conv2d(X, W, backend="naive")
    assert len(chosen.asked_in) == 2


def test_argument_goes_before_use_backend(without: Change) -> None:
    here, there = Recorder(), Recorder()
    without(naive=here, torch=there)
    with use_backend("torch"):
        conv2d(X, W, backend="naive")
    assert (len(here.asked_in), len(there.asked_in)) == (1, 0)


def test_gradient_runs_on_the_backend_of_its_forward() -> None:
    x = X.clone().requires_grad_()
    with use_backend("naive"):
        y = conv2d(x, W)
    with use_backend("torch"):
        y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(X))


# --- the protocol


@pytest.mark.parametrize("name", registry.TABLE)
def test_a_backend_has_every_member_of_the_protocol(name: str) -> None:
    members = {m for m in vars(Backend) if not m.startswith("_")} | set(Backend.__annotations__)
    assert {"against", "using", "DTYPES_ON", "NAME"} <= members
    module = registry.load(name)
    assert [member for member in sorted(members) if not hasattr(module, member)] == []
    assert name == registry.load(name).NAME


def test_a_module_of_four_functions_and_two_constants_is_a_backend(without: Change) -> None:
    least = Recorder()
    assert (least.NAME, least.DTYPES_ON, least.against("cpu")) == ("recorder", {}, "")
    assert least.using(None) is least
    assert least.explain("forward", None, torch.float32, False) == "recorder"
    with pytest.raises(UnsupportedError, match="algo='f4' is for the native backend"):
        least.using("f4")


SOURCES = sorted(Path(fastconv.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_one_guesses_what_a_backend_is(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert "getattr(backend" not in source
    assert "getattr(chosen" not in source
    assert "module.__name__" not in source


# --- the environment


def test_environment_chooses(backend: str) -> None:
    done = run("import fastconv; print(fastconv.current_backend())", FASTCONV_BACKEND=backend)
    assert done.stdout.strip() == backend, done.stderr


def test_use_backend_goes_before_the_environment() -> None:
    code = "import fastconv; fastconv.use_backend('torch'); print(fastconv.current_backend())"
    assert run(code, FASTCONV_BACKEND="naive").stdout.strip() == "torch"


def test_empty_environment_variable_means_auto() -> None:
    code = "import fastconv; print(fastconv.current_backend())"
    assert run(code, FASTCONV_BACKEND="").stdout.strip() == "auto"


def test_unknown_name_in_the_environment_is_told() -> None:
    code = "import fastconv, torch; o = torch.ones(1, 1, 1, 1); fastconv.conv2d(o, o)"
    done = run(code, FASTCONV_BACKEND="nativ")
    assert done.returncode == 1
    assert "'nativ'" in done.stderr
    assert "did you mean 'native'" in done.stderr


# --- names


@pytest.mark.parametrize(
    ("word", "meant"), [("nubma", "numba"), ("Native", "native"), ("tourch", "torch")]
)
def test_did_you_mean(word: str, meant: str) -> None:
    with pytest.raises(UnknownBackendError, match=f"'{word}': did you mean '{meant}'"):
        use_backend(word)


def test_no_hint_where_nothing_is_near() -> None:
    with pytest.raises(UnknownBackendError) as caught:
        use_backend("xyzzy")
    assert "did you mean" not in str(caught.value)
    for name in registry.CHOICES:
        assert name in str(caught.value)


# --- missing backends


@pytest.mark.parametrize("name", registry.TABLE)
def test_missing_backend_says_why_and_how_to_get_it(name: str, without: Change) -> None:
    without(name)
    info = fastconv.backends()[name]
    assert not info.available
    assert registry.TABLE[name].remedy in info.reason
    for ask in (use_backend, lambda n: conv2d(X, W, backend=n), registry.load):
        with pytest.raises(BackendUnavailableError) as caught:
            ask(name)
        assert f"backend '{name}' is not available" in str(caught.value)
        assert registry.TABLE[name].remedy in str(caught.value)
    assert fastconv.current_backend() == "auto"


def test_named_backend_is_never_replaced(without: Change) -> None:
    others = {name: Recorder() for name in registry.TABLE if name != "native"}
    without("native", **others)
    with pytest.raises(BackendUnavailableError):
        conv2d(X, W, backend="native")
    assert all(not other.asked_in for other in others.values())


def test_auto_takes_the_first_that_is_there(without: Change) -> None:
    fakes = {name: Recorder() for name in registry.TABLE}
    missing: list[str] = []
    for name in registry.TABLE:
        without(*missing, **{k: v for k, v in fakes.items() if k not in missing})
        forget()
        conv2d(X, W)
        assert [k for k, v in fakes.items() if v.asked_in] == [*missing, name]
        missing.append(name)


def test_auto_passes_over_a_backend_that_does_not_know_the_device(without: Change) -> None:
    elsewhere, here = Recorder(device="cuda"), Recorder()
    without(native=elsewhere, torch=here)
    conv2d(X, W)
    assert (elsewhere.asked_in, here.asked_in) == ([], [torch.float32])


@pytest.mark.parametrize("half", sorted(HALVES, key=str), ids=str)
def test_halves_are_computed_in_float32_or_by_the_backend_itself(
    half: torch.dtype, without: Change
) -> None:
    without_halves, with_halves = Recorder(), Recorder(dtypes=FLOATS | HALVES)
    without(naive=without_halves, numba=with_halves)
    for name in ("naive", "numba"):
        assert conv2d(X.to(half), W.to(half), backend=name).dtype == half
    assert without_halves.asked_in == [torch.float32]
    assert with_halves.asked_in == [half]
