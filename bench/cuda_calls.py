"""What bench_cuda.py times: the same work by fastconv and by cuDNN, inputs in turn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from networks import vgg19_to_conv5_1
from torch import Tensor, nn
from torch.nn import functional as F

from fastconv import conv2d, freeze
from fastconv.tools.shapes import ConvShape

DEVICE = "cuda"
ROTATED_BYTES = 256 << 20  # of inputs in turn: several times the cache of an H200
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}

Call = Callable[[int], object]  # takes the round's number, which picks the input


def rotated(make: Callable[[], Tensor]) -> list[Tensor]:
    first = make()
    count = max(1, min(16, ROTATED_BYTES // first.nbytes))
    return [first, *(make() for _ in range(count - 1))]


def layer_calls(shape: ConvShape, precision: str) -> dict[str, Call]:
    """Convolution, bias and ReLU: a frozen stack of one layer beside F.conv2d and F.relu."""
    dtype, last = PRECISIONS[precision], torch.channels_last
    conv = nn.Conv2d(shape.c_in, shape.c_out, shape.kernel, padding=shape.padding)
    conv = conv.to(DEVICE, dtype).requires_grad_(False)
    frozen = freeze(nn.Sequential(conv, nn.ReLU()), [1], "native")
    xs = rotated(lambda: torch.randn(shape.input_shape, device=DEVICE, dtype=dtype))
    xs_last = [x.to(memory_format=last) for x in xs]
    plain, weight_last = conv.weight, conv.weight.to(memory_format=last)

    def cudnn(inputs: list[Tensor], weight: Tensor) -> Call:
        def call(number: int) -> Tensor:
            x = inputs[number % len(inputs)]
            return F.relu(F.conv2d(x, weight, conv.bias, padding=shape.padding))

        return torch.no_grad()(call)

    ours = torch.no_grad()(lambda number: frozen(xs_last[number % len(xs_last)]))
    calls = {
        "fastconv": ours,
        "cuDNN channels_last": cudnn(xs_last, weight_last),
        "cuDNN NCHW": cudnn(xs, plain),
    }
    if precision == "fp32":
        calls["fastconv SIMT"] = torch.no_grad()(simt_layer(conv, xs_last))
    return calls


def simt_layer(conv: nn.Conv2d, xs: list[Tensor]) -> Call:
    """The same by the general kernel: a frozen stack keeps what was chosen at its first call."""
    frozen = freeze(nn.Sequential(conv, nn.ReLU()), [1], "native")
    torch.ops.fastconv.cuda_prefer("simt")
    try:
        with torch.no_grad():
            frozen(xs[0])
    finally:
        torch.ops.fastconv.cuda_prefer("")
    return lambda number: frozen(xs[number % len(xs)])


def gradient_calls(shape: ConvShape, operation: str, precision: str) -> dict[str, Call]:
    dtype = PRECISIONS[precision]
    calls: dict[str, Call] = {}
    for label, backend, last in (
        ("fastconv", "native", True),
        ("cuDNN channels_last", "torch", True),
        ("cuDNN NCHW", "torch", False),
    ):
        layout = torch.channels_last if last else torch.contiguous_format
        x = torch.randn(shape.input_shape, device=DEVICE, dtype=dtype).to(memory_format=layout)
        weight = torch.randn(shape.weight_shape, device=DEVICE, dtype=dtype)
        if backend == "torch":
            weight = weight.to(memory_format=layout)
        leaf = x if operation == "grad_input" else weight
        leaf.requires_grad_()
        y = conv2d(x, weight, padding=shape.padding, backend=backend)
        dys = rotated(lambda y=y, layout=layout: torch.randn_like(y).to(memory_format=layout))

        def call(number: int, y=y, leaf=leaf, dys=dys) -> object:
            return torch.autograd.grad(y, leaf, dys[number % len(dys)], retain_graph=True)

        calls[label] = call
    return calls


TAPS = (1, 6, 11, 20, 29)  # relu1_1 ... relu5_1, as style transfer taps them


def stack_calls(size: int, precision: str) -> dict[str, Call]:
    """Forward to five taps and back to the picture, eager and replayed from a graph."""
    dtype, last = PRECISIONS[precision], torch.channels_last
    plain = torch.contiguous_format
    models = {
        layout: vgg19_to_conv5_1().to(DEVICE, dtype, memory_format=layout)
        for layout in (plain, last)
    }
    taps = [tap for tap in TAPS if tap < len(models[plain])]
    calls: dict[str, Call] = {}
    for label, layout, network in (
        ("fastconv", last, freeze(models[plain], taps, "native")),
        ("torch channels_last", last, tapped(models[last], taps)),
        ("torch NCHW", plain, tapped(models[plain], taps)),
    ):
        x = torch.rand(1, 3, size, size, device=DEVICE, dtype=dtype).to(memory_format=layout)
        x.requires_grad_()

        def step(_: int, x=x, network=network) -> object:
            return torch.autograd.grad(sum(y.square().sum() for y in network(x)), x)

        calls[label] = step
    calls["fastconv, graph"] = as_graph(calls["fastconv"])
    calls["torch channels_last, graph"] = as_graph(calls["torch channels_last"])
    return calls


def tapped(model: nn.Sequential, taps: list[int]) -> Callable[[Tensor], list[Tensor]]:
    def network(x: Tensor) -> list[Tensor]:
        found = []
        for index, layer in enumerate(model):
            x = layer(x)
            if index in taps:
                found.append(x)
        return found

    return network


def as_graph(step: Call) -> Call:
    """The same work captured once and replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(0)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(0)
    return lambda _: graph.replay()
