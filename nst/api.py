"""stylize() and iterate(): the way from pictures and options to a Result, wired together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from .config.options import OUTPUT_NAMES, OUTPUT_PATHS, StyleConfig
from .errors import CheckpointError, ConfigError, OutputError
from .observers.files import CheckpointKeeper, FrameKeeper, check_outputs, write_tables
from .observers.progress import Observer, Observers
from .outputs import save_picture
from .outputs.atomic import check_apart
from .outputs.writers import to_pixels, writer_for
from .run import checkpoint as checkpoints
from .run.plan import check_memory, expected_network, plan_in_words
from .run.run import STARTS, Run, Step, load_inputs
from .run.signals import finishing_steps

Callback = Callable[[Step], Any]


@dataclass(frozen=True)
class Result:
    """What a run gives."""

    rgb: Tensor  # (1, 3, h, w) in [0, 1]
    alpha: Tensor | None  # the content's, (1, 1, h, w)
    losses: list[dict[str, float]]  # one row per iteration
    config: StyleConfig
    network: str  # its name, and where its weights come from
    computed: str  # by which backend, where, and in which precision
    seconds: float  # of computing
    notes: list[str]  # what the run had to say
    settings: dict[str, Any]  # all that is kept in a file's metadata
    interrupted: bool = False
    checkpoint: Path | None = None  # where an interrupted run can be resumed from
    frames: Path | None = None  # the folder of frames, if there is one

    @property
    def image(self) -> Image.Image:
        """The picture for Pillow, with the content's alpha."""
        return Image.fromarray(to_pixels(self.rgb, self.alpha))

    def save(self, path: Path | str) -> Path:
        """Write the picture with its settings, in the format of the suffix."""
        config = self.config
        return save_picture(path, self.rgb, self.alpha, self.settings, config.quality, config.bits)


def stylize(
    content: Any = None,
    style: Any = None,
    *,
    config: StyleConfig | None = None,
    resume: Path | str | None = None,
    observer: Observer | None = None,
    callback: Callback | None = None,
    preset: str = "quality",
    **options: Any,
) -> Result:
    """Paint `content` in the style of `style` (one picture or a list of them).

    Pictures are paths, PIL pictures, arrays or tensors.  `options` are the fields of
    StyleConfig, the same as on the command line; `resume` goes on with a checkpoint instead,
    and then only options about outputs may be given.  Files are written only where asked for
    (`output=...`, `plot=...`).  Ctrl-C ends the run after the step in work, with a Result whose
    `interrupted` is true; a second one at once.  `callback` sees every Step and may return
    False to end the run early.
    """
    observer = observer or Observer()
    run, sources = _begin(content, style, config, resume, observer, preset, options)
    target = run.config.output
    if target and run.inputs.content.alpha is not None and not writer_for(target).has_alpha:
        run.note(f"{target}: JPEG has no transparency; the picture is laid on white")
    keepers = [observer]
    if run.config.save_every or run.config.animate:
        keepers.append(FrameKeeper(run.config))
    if run.config.checkpoint or run.config.output:
        keepers.append(CheckpointKeeper(run, sources, resume))
    watching = Observers(*keepers)
    try:
        with finishing_steps(observer.note) as stop:
            for step in run.steps():
                watching.step(step)
                if (callback is not None and callback(step) is False) or stop.is_set():
                    break
            interrupted = stop.is_set() and not run.finished
            return _finish(run, sources, keepers, interrupted)  # which no signal cuts short either
    except OutputError as error:  # such as a frame that found the disk full
        _rescue(error, run, sources, keepers)
        raise
    finally:
        watching.close()


def iterate(content: Any, style: Any, *, preset: str = "quality", **options: Any) -> Iterator[Step]:
    """The same run as a generator of Steps: `step.picture`, `step.row`, `step.iteration`.

    Nothing is written; stop whenever you like.
    """
    observer = options.pop("observer", None) or Observer()
    run, _ = _begin(content, style, None, None, observer, preset, options)
    return run.steps()


def plan(
    content: Any, style: Any, config: StyleConfig, resume: Path | str | None = None
) -> list[str]:
    """What a run would do and need, in lines; nothing is fetched and nothing computed."""
    if resume is not None:
        saved = checkpoints.load(Path(resume))
        inputs, network, config = saved.inputs, saved.network, saved.config
    else:
        check_outputs(config)
        styles = list(style) if isinstance(style, list | tuple) else [style]
        _check_apart(config, content, styles)
        inputs = load_inputs(config, content, styles)
        network = expected_network(config)
    return plan_in_words(config, inputs, network)


def _begin(
    content: Any,
    style: Any,
    config: StyleConfig | None,
    resume: Path | str | None,
    observer: Observer,
    preset: str,
    options: dict[str, Any],
) -> tuple[Run, dict[str, Any]]:
    if resume is not None:
        return _resumed(Path(resume), config, options, observer)
    if content is None or style is None:
        raise ConfigError("expected a content and a style picture")
    config = config.but(**options) if config else StyleConfig.of(preset, **options)
    check_outputs(config)
    styles = list(style) if isinstance(style, list | tuple) else [style]
    _check_apart(config, content, styles)
    sources = {"content": _name(content), "styles": [_name(one) for one in styles]}
    inputs = load_inputs(config, content, styles)
    check_outputs(config, inputs.content.hw)
    check_memory(config, inputs, expected_network(config))
    return Run.prepare(config, inputs, observer), sources


def _resumed(
    path: Path, config: StyleConfig | None, options: dict[str, Any], observer: Observer
) -> tuple[Run, dict[str, Any]]:
    saved = checkpoints.load(path)
    wanted = saved.config.but(**options) if config is None else config.but(**options)
    for name, value in wanted.plain().items():
        kept = saved.config.plain()[name]
        if name not in OUTPUT_NAMES and value != kept:
            raise CheckpointError(
                f"{path} is of another run: it has {name} = {kept!r}, not {value!r}; leave the "
                "option away, or start anew"
            )
    check_outputs(wanted, resumed=path)
    _check_apart(wanted, saved.sources["content"], saved.sources["styles"])
    network = saved.network if saved.config.weights is None else None
    run = Run.prepare(wanted, saved.inputs, observer, network)
    return checkpoints.restore(saved, run), saved.sources


def _check_apart(config: StyleConfig, content: Any, styles: Sequence[Any]) -> None:
    """OutputError if a file would replace one that is read, or another output."""
    read = {"the content": content, "the mask": config.mask, "the weights": config.weights}
    read |= {f"style {nth}": style for nth, style in enumerate(styles, start=1)}
    if config.init not in STARTS:
        read["the start"] = config.init
    check_apart({name: getattr(config, name) for name in OUTPUT_PATHS}, read)


def _name(source: Any) -> str:
    """A picture's path as given, or a word for one that has none."""
    return str(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"


def _result(
    run: Run, sources: dict[str, Any], keepers: Sequence[Observer], interrupted: bool
) -> Result:
    frames = next((k for k in keepers if isinstance(k, FrameKeeper)), None)
    return Result(
        rgb=run.final_picture(),
        alpha=run.inputs.content.alpha,
        losses=run.history,
        config=run.config,
        network=f"{run.network.name}: {run.source}",
        computed=run.computed,
        seconds=run.seconds,
        notes=run.notes,
        settings=_settings(run, sources),
        interrupted=interrupted,
        frames=frames.folder if frames else None,
    )


def _finish(
    run: Run, sources: dict[str, Any], keepers: Sequence[Observer], interrupted: bool
) -> Result:
    """The picture first, then the checkpoint: whatever else may fail, they are there."""
    result = _result(run, sources, keepers, interrupted)
    if run.config.output is not None:
        result.save(run.config.output)
    kept = next((k for k in keepers if isinstance(k, CheckpointKeeper)), None)
    if kept is not None and interrupted:
        result = replace(result, checkpoint=kept.save(run))
    write_tables(result)
    for frames in (k for k in keepers if isinstance(k, FrameKeeper)):
        frames.animate()
    if kept is not None and not interrupted:
        kept.remove()
    return result


def _rescue(
    error: OutputError, run: Run, sources: dict[str, Any], keepers: Sequence[Observer]
) -> None:
    """A file could not be written: keep the run, and the picture if it is not there yet.

    Where the checkpoint finds no room in its own place, it goes to the system's temporary folder.
    """
    kept = next((k for k in keepers if isinstance(k, CheckpointKeeper)), None)
    if kept is None or not run.history:
        return
    for path in (kept.path, Path(tempfile.gettempdir()) / f"nst-{kept.path.name}"):
        with suppress(OutputError):
            checkpoints.save(path, run, sources)
            error.args = (f"{error}; nothing is lost, go on with: nst stylize --resume {path}",)
            break
    with suppress(OutputError):
        if run.config.output is not None:
            _result(run, sources, keepers, interrupted=True).save(run.config.output)


def _settings(run: Run, sources: dict[str, Any]) -> dict[str, Any]:
    from . import __version__

    return {
        "nst": __version__,
        **sources,
        "network": f"{run.network.name}: {run.source}",
        "computed": run.computed,
        "config": run.config.plain(),
        "iterations": len(run.history),
        "seconds": round(run.seconds, 2),
        "losses": {k: run.history[-1][k] for k in ("total", "content", "style")}
        if run.history
        else {},
        "notes": run.notes,
    }
