"""Stylizer, stylize() and iterate(): the only file that wires the stages together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from .config.options import OUTPUT_NAMES, OUTPUT_PATHS, STARTS, StyleConfig
from .errors import CheckpointError, ConfigError, OutputError
from .networks.weights import Weights
from .observers.files import CheckpointKeeper, FrameKeeper, write_tables
from .outputs.atomic import check_apart, folders_to_make
from .outputs.paths import check_outputs
from .outputs.writers import writer_for
from .pictures.decoding import path_of_file
from .pictures.sizing import Picture
from .run import checkpoint as checkpoints
from .run.engine import Engine
from .run.inputs import Inputs, fitted_styles, load_content, load_inputs, load_styles, with_start
from .run.observer import Observer, Observers
from .run.plan import check_memory, plan_in_words
from .run.result import Result
from .run.run import MoreTerms, Run, no_more_terms
from .run.setup import Setup
from .run.signals import finishing_steps
from .run.step import Step

Callback = Callable[[Step], Any]
Sources = dict[str, Any]  # the pictures' paths as they were given, for the metadata


class Stylizer:
    """Style transfer prepared once, for any number of contents.

        paint = nst.Stylizer("painting.jpg", size=512)
        paint("one.jpg").image.save("one.png")
        paint("two.jpg", output="two.png")

    Weights are read and checked, the network is built, and the styles are read when it is made;
    the styles' statistics are taken at the first content and kept for others of the same size.
    `options` are those of `stylize`; at a call, those about outputs (`output=`, `plot=`, ...) may
    be given anew.  `weights` may also be what nst.networks.weights.obtain() gave, read before.
    """

    def __init__(
        self,
        style: Any,
        *,
        config: StyleConfig | None = None,
        observer: Observer | None = None,
        preset: str = "quality",
        weights: Weights | Path | str | None = None,
        **options: Any,
    ) -> None:
        at_hand = weights if isinstance(weights, Weights) else None
        if at_hand:  # they say which network it is
            options["network"] = at_hand.network
        elif weights is not None:
            options["weights"] = weights
        config = config.but(**options) if config else StyleConfig.of(preset, **options)
        self.config, self.observer = config, observer or Observer()
        styles = list(style) if isinstance(style, list | tuple) else [style]
        self._style_names = [_name(one) for one in styles]
        self._given_styles = styles
        self._styles = load_styles(config, styles)
        self._fitted: tuple[tuple[int, int], list[Picture]] | None = None
        self.engine = Engine.prepare(Setup.expected(config), self.observer, at_hand)

    def __call__(
        self,
        content: Any,
        *,
        observer: Observer | None = None,
        callback: Callback | None = None,
        more_terms: MoreTerms = no_more_terms,
        **outputs: Any,
    ) -> Result:
        """Paint one content; `outputs` are the options about outputs."""
        config = self._with_outputs(outputs)
        self._check(config, content)
        run = self._run(content, observer, more_terms)
        check_outputs(config, run.inputs.content.hw)
        return _painted(run, config, self._sources(content), None, callback)

    def iterate(
        self,
        content: Any,
        *,
        observer: Observer | None = None,
        more_terms: MoreTerms = no_more_terms,
    ) -> Iterator[Step]:
        """The same as a generator of Steps; nothing is written, stop whenever you like."""
        return self._run(content, observer, more_terms).steps()

    def _with_outputs(self, outputs: dict[str, Any]) -> StyleConfig:
        for name in outputs:
            if name not in OUTPUT_NAMES:
                raise ConfigError(
                    f"a Stylizer is made with its options; at a call only outputs may be given, "
                    f"not {name!r}"
                )
        return self.config.but(**outputs)

    def _check(self, config: StyleConfig, content: Any) -> None:
        check_outputs(config)
        _check_apart(config, content, self._given_styles)

    def _sources(self, content: Any) -> Sources:
        return {"content": _name(content), "styles": self._style_names}

    def _run(self, content: Any, observer: Observer | None, more_terms: MoreTerms) -> Run:
        picture = load_content(self.config, content)
        check_memory(self.engine.setup, picture.hw)
        inputs = with_start(self.config, picture, self._styles_for(picture))
        return Run(self.engine, inputs, observer or self.observer, more_terms)

    def _styles_for(self, content: Picture) -> list[Picture]:
        """The styles fitted to this content; the same list again for another of its size."""
        if self.config.preserve_color == "match":  # they take on the content's colours
            return fitted_styles(self.config, content, self._styles)
        if self._fitted is None or self._fitted[0] != content.hw:
            self._fitted = content.hw, fitted_styles(self.config, content, self._styles)
        return self._fitted[1]


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

    Pictures are paths, files opened for bytes, PIL pictures, arrays or tensors.  `options` are
    the fields of StyleConfig, the same as on the command line; `resume` continues a checkpoint
    instead, and then only options about outputs may be given.  Files are written only where asked
    for (`output=...`, `plot=...`).  Ctrl-C ends the run after the current step, with a Result whose
    `interrupted` is true; a second one at once.  `callback` is given every Step and may return
    False to end the run early.
    """
    observer = observer or Observer()
    if resume is not None:
        run, wanted, sources = _resumed(Path(resume), config, options, observer)
        return _painted(run, wanted, sources, resume, callback)
    config = _config(content, style, config, preset, options)
    # everything that can be wrong with the pictures and outputs is found before weights are read
    inputs, sources = _inputs(config, content, style)
    setup = Setup.expected(config)
    setup.levels(inputs.content.hw)
    check_memory(setup, inputs.content.hw)
    run = Run(Engine.prepare(setup, observer), inputs, observer)
    return _painted(run, config, sources, None, callback)


def iterate(content: Any, style: Any, *, preset: str = "quality", **options: Any) -> Iterator[Step]:
    """The same run as a generator of Steps: `step.picture`, `step.row`, `step.iteration`.

    Nothing is written; stop whenever you like.
    """
    observer = options.pop("observer", None) or Observer()
    return Stylizer(style, observer=observer, preset=preset, **options).iterate(content)


def plan(
    content: Any,
    style: Any,
    config: StyleConfig,
    resume: Path | str | None = None,
) -> list[str]:
    """What a run would do and need, in lines; nothing is fetched and nothing computed.

    What the run would refuse is refused.
    """
    if resume is not None:
        saved = checkpoints.load(Path(resume))
        _check_resumption(Path(resume), saved, config)
        return plan_in_words(Setup.expected(config, _network_of(saved)), saved.inputs)
    inputs, _ = _inputs(config, content, style)
    return plan_in_words(Setup.expected(config), inputs)


def _config(
    content: Any, style: Any, config: StyleConfig | None, preset: str, options: dict[str, Any]
) -> StyleConfig:
    if content is None or style is None:
        raise ConfigError("expected a content and a style picture")
    return config.but(**options) if config else StyleConfig.of(preset, **options)


def _inputs(config: StyleConfig, content: Any, style: Any) -> tuple[Inputs, Sources]:
    check_outputs(config)
    styles = list(style) if isinstance(style, list | tuple) else [style]
    _check_apart(config, content, styles)
    inputs = load_inputs(config, content, styles)
    check_outputs(config, inputs.content.hw)
    return inputs, {"content": _name(content), "styles": [_name(one) for one in styles]}


def _resumed(
    path: Path, config: StyleConfig | None, options: dict[str, Any], observer: Observer
) -> tuple[Run, StyleConfig, Sources]:
    saved = checkpoints.load(path, options)
    wanted = (config or saved.config).but(**options)
    _check_resumption(path, saved, wanted)
    setup = Setup.expected(wanted, _network_of(saved))
    check_memory(setup, saved.inputs.content.hw)
    run = Run(Engine.prepare(setup, observer), saved.inputs, observer)
    return checkpoints.restore(saved, run), wanted, saved.sources


def _network_of(saved: checkpoints.Checkpoint) -> str | None:
    """The network's name where `auto` stands in the settings: the choice is not made again."""
    is_open = saved.config.network == "auto" and saved.config.weights is None
    return saved.network if is_open else None


def _check_resumption(path: Path, saved: checkpoints.Checkpoint, wanted: StyleConfig) -> None:
    """The settings must be the checkpoint's but for the outputs, and these must be writable."""
    before = saved.config.plain()
    for name, value in wanted.plain().items():
        if name not in OUTPUT_NAMES and value != before[name]:
            raise CheckpointError(
                f"{path} is of another run: it has {name} = {before[name]!r}, not {value!r}; "
                "leave the option out, or start anew"
            )
    check_outputs(wanted, resumed=path)
    _check_apart(wanted, saved.sources["content"], saved.sources["styles"])


def _check_apart(config: StyleConfig, content: Any, styles: Sequence[Any]) -> None:
    """OutputError if a file would replace one that is read, or another output."""
    read = {"the content": content, "the mask": config.mask, "the weights": config.weights}
    read |= {f"style {nth}": style for nth, style in enumerate(styles, start=1)}
    if config.init not in STARTS if isinstance(config.init, str) else True:
        read["the start"] = config.init
    files = {name: _path(source) for name, source in read.items()}
    check_apart({name: getattr(config, name) for name in OUTPUT_PATHS}, files)


def _name(source: Any) -> str:
    """A picture's path as given, or a word for one that has none."""
    return str(_path(source) or f"<{type(source).__name__}>")


def _path(source: Any) -> str | os.PathLike[str] | None:
    """The path of a picture that was given by it, or as a file that is open."""
    return source if isinstance(source, str | os.PathLike) else path_of_file(source)


def _painted(
    run: Run,
    config: StyleConfig,
    sources: Sources,
    resumed: Path | str | None,
    callback: Callback | None,
) -> Result:
    """Run to the end, or to a signal's, and write what was asked for."""
    for line in folders_to_make(getattr(config, name) for name in sorted(OUTPUT_PATHS)):
        run.observer.note(line)  # not in the result, which would keep the path
    target = config.output
    if target and run.inputs.content.alpha is not None and not writer_for(target).has_alpha:
        run.note(f"{target}: JPEG has no transparency; the picture is laid on white")
    keepers: list[Observer] = [run.observer]
    if config.save_every or config.animate:
        keepers.append(FrameKeeper(config))
    if config.checkpoint or config.output:
        keepers.append(CheckpointKeeper(run, config, sources, resumed))
    watching = Observers(*keepers)
    try:
        with finishing_steps(run.observer.note) as stop:
            watching.begin(run)
            for step in run.steps():
                watching.step(step)
                if (callback is not None and callback(step) is False) or stop.is_set():
                    break
            interrupted = stop.is_set() and not run.finished
            # which no signal cuts short either
            return _finish(run, config, sources, keepers, interrupted)
    except OutputError as error:  # such as a frame that found the disk full
        _rescue(error, run, config, sources, keepers)
        raise
    finally:
        watching.close()


def _finish(
    run: Run,
    config: StyleConfig,
    sources: Sources,
    keepers: Sequence[Observer],
    interrupted: bool,
) -> Result:
    """The picture first, then the checkpoint: whatever else may fail, they are there."""
    frames = next((k for k in keepers if isinstance(k, FrameKeeper)), None)
    kept = next((k for k in keepers if isinstance(k, CheckpointKeeper)), None)
    result = Result.of(run, config, sources, interrupted)
    result = replace(result, frames=frames.folder if frames else None)
    if config.output is not None:
        result.save(config.output)
    if kept is not None and interrupted:
        result = replace(result, checkpoint=kept.save())
    write_tables(result.losses, config)
    if frames is not None:
        frames.animate()
    if kept is not None and not interrupted:
        kept.remove()
    return result


def _rescue(
    error: OutputError,
    run: Run,
    config: StyleConfig,
    sources: Sources,
    keepers: Sequence[Observer],
) -> None:
    """A file could not be written: keep the run, and the picture if it is not there yet.

    Where the checkpoint finds no space in its own place, it goes to the system's temporary folder.
    """
    kept = next((k for k in keepers if isinstance(k, CheckpointKeeper)), None)
    if kept is None or not run.history:
        return
    for path in (kept.path, Path(tempfile.gettempdir()) / f"nst-{kept.path.name}"):
        with suppress(OutputError):
            checkpoints.save(path, run, config, sources)
            error.args = (f"{error}; nothing is lost, go on with: nst stylize --resume {path}",)
            break
    with suppress(OutputError):
        if config.output is not None:
            Result.of(run, config, sources, interrupted=True).save(config.output)
