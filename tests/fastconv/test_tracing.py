"""What traces F.conv2d traces conv2d, on every backend: as one operator, right elsewhere too."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from functorch.compile import aot_function, nop
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import Dim, export
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fastconv import ArgumentError, Conv2d, conv2d, swap_convs, use_algorithm, use_backend
from nst.training.torchvision_import import import_torchvision

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]
Function = Callable[..., Any]
SHAPES = ((2, 4, 6, 7), (6, 2, 3, 3), (6,))
OPTIONS: tuple[Any, ...] = ((2, 1), (1, 2), 1, 2)
OPERATORS = {"conv2d", "conv2d_grad_input", "conv2d_grad_weight"}


@pytest.fixture
def ours(backend: str) -> Function:
    return lambda x, w, b=None: conv2d(x, w, b, *OPTIONS, backend=backend)


def theirs(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    return F.conv2d(x, w, b, *OPTIONS)


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def draw() -> list[Tensor]:
    return [torch.randn(shape) for shape in SHAPES]


def squared(function: Function) -> Function:
    return lambda *operands: function(*operands).square().sum()


def assert_alike(got: Any, expected: Any) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


def assert_same_gradients(traced: Function) -> None:
    """A second time as well: TorchScript's executor specialises then."""
    for _ in range(3):
        at = draw()
        mine, other = ([t.clone().requires_grad_() for t in at] for _ in range(2))
        traced(*mine).square().sum().backward()
        theirs(*other).square().sum().backward()
        assert_alike([t.grad for t in mine], [t.grad for t in other])


def network(backend: str, **options: Any) -> nn.Sequential:
    first = Conv2d(4, 6, 3, padding=1, backend=backend)
    last = Conv2d(6, 2, (2, 4), padding="same", padding_mode="reflect", backend=backend)
    return nn.Sequential(first, nn.ReLU(), last).to(**options).eval()


# --- make_fx


def test_make_fx_does_not_keep_the_weights_it_was_traced_with(ours: Function) -> None:
    traced = make_fx(ours)(*draw())
    at = draw()
    assert_alike(traced(*at), theirs(*at))


# Winograd's weights are transformed and kept, which no trace may see.


def winograd(x: Tensor, w: Tensor) -> Tensor:
    return conv2d(x, w, padding=1, backend="native", algo="f4")


def for_winograd() -> tuple[Tensor, Tensor]:
    return torch.randn(1, 16, 12, 12), torch.randn(16, 16, 3, 3)


def test_make_fx_does_not_keep_transformed_weights() -> None:
    before = for_winograd()
    winograd(*before)  # which keeps them
    traced = make_fx(winograd)(*before)
    x, w = for_winograd()
    assert_alike(traced(x, w), F.conv2d(x, w, padding=1))


def test_fake_tensors_and_aot_meet_no_transformed_weights() -> None:
    x, w = for_winograd()
    with FakeTensorMode() as mode:
        assert winograd(mode.from_tensor(x), mode.from_tensor(w)).shape == x.shape
    assert_alike(aot_function(winograd, nop, nop)(x, w), F.conv2d(x, w, padding=1))


def test_make_fx_of_gradients_and_of_vmap(ours: Function) -> None:
    (x, w, _), (other, weights, _) = draw(), draw()
    traced = make_fx(lambda x, w: grad(squared(ours), (0, 1))(x, w))(x, w)
    assert_alike(traced(other, weights), grad(squared(theirs), (0, 1))(other, weights))
    traced = make_fx(lambda x, w: vmap(ours, (0, None))(x[:, None], w))(x, w)
    assert_alike(traced(other, weights), vmap(theirs, (0, None))(other[:, None], weights))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_a_trace_holds_one_operator(mode: str, fast_backend: str) -> None:
    if fast_backend == "torch":
        pytest.skip("torch's own operators")
    function = squared(lambda x, w: conv2d(x, w, padding="same", backend=fast_backend))
    x, w = torch.randn(2, 4, 6, 7), torch.randn(3, 4, 3, 3)
    graph = make_fx(lambda x, w: grad(function, (0, 1))(x, w), tracing_mode=mode)(x, w).graph
    found = [node.target for node in graph.nodes if "fastconv" in str(node.target)]
    assert {target._opname for target in found} == OPERATORS
    assert len(found) == 3


# --- fake tensors, AOT, meta


def test_fake_tensors_forward_and_backward(ours: Function) -> None:
    x, w, b = draw()
    expected = theirs(x, w, b)
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(t).requires_grad_() for t in (x, w, b)]
        y = ours(*fakes)
    y.sum().backward()  # outside the mode as well
    assert isinstance(y, FakeTensor)
    assert (y.shape, y.stride()) == (expected.shape, expected.stride())
    assert [t.grad.shape for t in fakes] == [t.shape for t in fakes]


def test_aot_function(ours: Function) -> None:
    assert_same_gradients(aot_function(ours, nop, nop))


def test_meta_modules_give_shapes(backend: str) -> None:
    model, x = network(backend, device="meta"), torch.empty(2, 4, 6, 7, device="meta")
    y = model(x)
    y.sum().backward()
    assert (y.device.type, y.shape) == ("meta", (2, 2, 6, 7))
    assert model[0].weight.grad.shape == (6, 4, 3, 3)


@pytest.mark.parametrize("name", sorted(OPERATORS))
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_opcheck(name: str, layout: torch.memory_format, backend: str) -> None:
    x, w, b = draw()
    x = x.contiguous(memory_format=layout).requires_grad_()
    dy = torch.randn_like(theirs(x, w)).contiguous(memory_format=layout).requires_grad_()
    w.requires_grad_()
    options = ([2, 1], [1, 1, 2, 2], [1, 1], 2, backend, None, None)
    arguments = {
        "conv2d": (x, w, b),
        "conv2d_grad_input": (dy, w, list(x.shape)),
        "conv2d_grad_weight": (dy, x, list(w.shape)),
    }
    operator = getattr(torch.ops.fastconv, name).default
    checked = torch.library.opcheck(operator, (*arguments[name], *options))
    assert set(checked.values()) == {"SUCCESS"}


def test_operators_refuse_what_does_not_fit() -> None:
    x, w, _ = draw()
    options = ([2, 1], [1, 1, 2, 2], [1, 1], 2, "numba", None, None)
    with pytest.raises(ArgumentError, match="dy expects shape"):
        torch.ops.fastconv.conv2d_grad_input(x, w, [2, 4, 6, 7], *options)
    with pytest.raises(ArgumentError, match="dy expects shape"):
        torch.ops.fastconv.conv2d_grad_weight(x, x, [6, 2, 3, 3], *options)
    with pytest.raises(ArgumentError, match="top, bottom, left, right"):
        torch.ops.fastconv.conv2d(x, w, None, [2, 1], [1], *options[2:])


# --- torch.compile and export


@pytest.mark.usefixtures("fresh_dynamo")
def test_compiled_for_ten_sizes_without_a_graph_break(ours: Function) -> None:
    function = torch.compile(ours, dynamic=True, fullgraph=True, backend="aot_eager")
    for size in range(3, 13):
        x = torch.randn(2, 4, size, size + 1)
        _, w, b = draw()
        assert_alike(function(x, w, b), theirs(x, w, b))
    assert_same_gradients(function)


@pytest.mark.usefixtures("fresh_dynamo")
def test_compiled_transforms(ours: Function) -> None:
    def per_sample(function: Function) -> Function:
        return lambda x, w: vmap(grad(squared(function), 1), (0, None))(x, w)

    x, w, _ = draw()
    function = torch.compile(per_sample(ours), fullgraph=True, backend="aot_eager")
    assert_alike(function(x, w), per_sample(theirs)(x, w))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.usefixtures("fresh_dynamo")
def test_export_with_free_sizes(strict: bool, backend: str) -> None:
    model = network(backend)
    sizes = {0: Dim("n"), 2: Dim("h", min=4), 3: Dim("w", min=4)}
    program = export(model, (torch.randn(2, 4, 6, 7),), dynamic_shapes=(sizes,), strict=strict)
    x = torch.randn(5, 4, 9, 8)
    assert_alike(program.module()(x), model(x))


# --- TorchScript


def test_jit_trace_for_other_sizes_and_weights(ours: Function) -> None:
    traced = torch.jit.trace(ours, tuple(draw()))
    _, w, b = draw()
    x = torch.randn(1, 4, 9, 5)
    assert_alike(traced(x, w, b), theirs(x, w, b))


def test_jit_trace_with_gradients(ours: Function) -> None:
    assert_same_gradients(torch.jit.trace(ours, [t.requires_grad_() for t in draw()]))


def test_jit_script_saves_and_loads(backend: str) -> None:
    model, file, x = network(backend), io.BytesIO(), torch.randn(2, 4, 6, 7)
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    again = torch.jit.load(file)
    assert_alike(again(x), model(x))
    assert_alike(again(x[0]), model(x[0]))


def test_a_script_follows_the_choices_in_force() -> None:
    scripted, x = torch.jit.script(Conv2d(8, 8, 3, padding=1)), torch.randn(1, 8, 24, 24)
    with torch.no_grad(), use_backend("native"):
        with use_algorithm("f6"):
            coarse = scripted(x)
        with use_algorithm("direct"):
            exact = scripted(x)
        wanted = conv2d(x, scripted.weight, scripted.bias, padding=1, algo="direct")
    assert torch.equal(exact, wanted)
    assert not torch.equal(coarse, exact)


# --- torch.fx


def test_symbolic_trace(backend: str) -> None:
    model, x = network(backend), torch.randn(2, 4, 6, 7)
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes].count(conv2d) == 2
    assert_alike(traced(x), model(x))


def test_feature_extractor_of_a_swapped_network() -> None:
    models = import_torchvision("torchvision.models")
    extraction = import_torchvision("torchvision.models.feature_extraction")
    model, x = models.resnet18(weights=None).eval(), torch.randn(1, 3, 32, 32)
    layers = ["layer1.0.conv1", "layer2"]
    expected = extraction.create_feature_extractor(model, layers)(x)
    got = extraction.create_feature_extractor(swap_convs(model), layers)(x)
    assert_alike(got, expected)


# --- operations counted


def test_flop_counter_counts_both_directions(backend: str) -> None:
    def counted(function: Function) -> int:
        x, w, _ = draw()
        with FlopCounterMode(display=False) as counter:
            function(x.requires_grad_(), w[:, [0, 1, 0, 1]].requires_grad_()).sum().backward()
        return counter.get_total_flops()

    mine = counted(lambda x, w: conv2d(x, w, stride=2, padding=1, backend=backend))
    assert mine == counted(lambda x, w: F.conv2d(x, w, stride=2, padding=1)) > 0
