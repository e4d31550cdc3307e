"""What does not fit into the machine's memory is refused before it is begun, or warned of."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from patterns import options
from small_run import CONTENT, SMALL, STYLE, run

import nst
from nst.cli.main import main
from nst.config.options import LARGEST_PIXELS
from nst.errors import ConfigError
from nst.networks import hardware
from nst.networks.hardware import Memory, memory_of
from nst.training import train
from nst.training.options import LARGEST_CROP

CPU = torch.device("cpu")
GB = 2**30


def machine(root: Path, **files: str) -> Path:
    """A root folder with 8 GB of memory and 2 of swap, 6 GB of them free, and more files."""
    meminfo = "MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\nSwapTotal: 2097152 kB\n"
    for name, text in {"proc/meminfo": meminfo, **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def have(monkeypatch: pytest.MonkeyPatch, free: int, total: int) -> None:
    """A machine with so much memory, wherever it is asked for."""

    def memory(device: torch.device) -> Memory:
        return Memory(free, total)

    for module in ("nst.networks.hardware", "nst.run.plan"):
        monkeypatch.setattr(f"{module}.memory_of", memory)


# ---------------------------------------------------------------- what there is


def test_without_limits_memory_is_the_machine_s_with_its_swap(tmp_path: Path) -> None:
    assert memory_of(CPU, machine(tmp_path)) == Memory(6 * GB, 10 * GB)


def test_the_tightest_control_group_counts_and_cached_files_give_way(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/outer"
    files = {
        "proc/self/cgroup": "0::/outer/inner\n",
        f"{group}/memory.max": f"{4 * GB}",
        f"{group}/memory.current": f"{3 * GB}",
        f"{group}/memory.stat": f"anon 7\ninactive_file {1 * GB}\n",
        f"{group}/inner/memory.max": "max",
        f"{group}/inner/memory.current": "5",
    }
    assert memory_of(CPU, machine(tmp_path, **files)) == Memory(2 * GB, 4 * GB)


def test_control_groups_of_the_first_version_count_as_well(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory"  # as a container sees it: its own folder is the root
    files = {
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/0815\n",
        f"{group}/memory.limit_in_bytes": f"{2 * GB}",
        f"{group}/memory.usage_in_bytes": f"{GB}",
        f"{group}/memory.stat": "total_inactive_file 0\n",
    }
    assert memory_of(CPU, machine(tmp_path, **files)) == Memory(1 * GB, 2 * GB)


def test_a_system_that_tells_otherwise_gives_all_that_it_has(tmp_path: Path) -> None:
    found = memory_of(CPU, tmp_path)
    assert found is None or found.free == found.total > 2**28


def test_this_machine_has_some_memory() -> None:
    found = memory_of(CPU)
    assert found is None or 0 <= found.free <= found.total


# ---------------------------------------------------------------- style transfer


def test_a_run_larger_than_the_machine_is_refused_with_a_size_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, GB // 4, GB // 2)
    words = r"480x360 pixels needs about 0\.\d+ GB of memory, and there are 0\.50 GB in all here: "
    with pytest.raises(
        ConfigError, match=words + r"--size \d+ would fit; --max-memory 0\.\dG goes"
    ):
        run(size=480)


def test_a_run_larger_than_what_is_free_is_warned_of_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, GB // 4, GB)
    words = r"of memory, and 0\.25 GB are free: no useful size would fit$"
    with pytest.warns(UserWarning, match=words):
        assert run().rgb.shape == (1, 3, 30, 40)


def test_a_limit_that_the_user_sets_stands_in_the_place_of_the_machine_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, GB // 4, GB // 4)
    assert run(max_memory="2G").rgb.shape == (1, 3, 30, 40)


def test_a_prepared_stylizer_a_resumed_run_and_a_plan_are_checked_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    painter = nst.Stylizer(STYLE, **SMALL)
    ctrl_c = {"output": tmp_path / "o.png", "callback": lambda step: signal.raise_signal(2)}
    broken_off = nst.stylize(CONTENT, STYLE, **ctrl_c, **SMALL)
    assert broken_off.checkpoint is not None
    have(monkeypatch, GB // 4, GB // 4)
    with pytest.raises(ConfigError, match="in all here"):
        painter(CONTENT)
    with pytest.raises(ConfigError, match="in all here"):
        nst.stylize(resume=broken_off.checkpoint)
    with pytest.raises(ConfigError, match="in all here"):
        nst.api.plan(CONTENT, STYLE, nst.StyleConfig.of("quality", **SMALL))


def test_where_memory_is_plenty_nothing_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, 64 * GB, 64 * GB)
    monkeypatch.setattr("nst.run.setup.Setup.memory", None)  # half a second, if it were called
    assert run().rgb.shape == (1, 3, 30, 40)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("option", ["-s", "--first-size"])
@pytest.mark.parametrize("size", ["100000", "8"])
def test_crops_have_bounds(option: str, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", ".", option, size]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nst: train: ")
    assert f"-size expects a number from 16 to 6,688, got {size} (" in line


def test_the_pictures_of_the_largest_crops_are_the_largest_pictures() -> None:
    assert (2 * LARGEST_CROP) ** 2 <= LARGEST_PIXELS < (2 * LARGEST_CROP + 2) ** 2


def test_a_training_step_that_cannot_fit_is_refused_and_one_that_may_not_is_warned_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, 10_000, 3_000_000)
    kept = "keeping 6 pictures of 256x256 pixels needs about 0.00 GB"
    step = r"a step of 3 crops of 128 pixels needs about \S+ GB of memory, and there are .* in all"
    with pytest.warns(UserWarning, match=kept), pytest.raises(ConfigError, match=step):
        train(options(folder, image_size=128))


def test_pictures_that_cannot_be_kept_in_memory_are_refused_before_they_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, 10_000, 20_000)
    with pytest.raises(ConfigError, match=r"keeping 6 pictures of 48x48 .*smaller --image-size"):
        train(options(folder))


def test_a_graphics_card_tells_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (3, 5))
    assert hardware.memory_of(torch.device("cuda")) == Memory(3, 5)
