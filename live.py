"""Expressions of every face of a camera or a video, frame by frame, with HiResCAM.

python live.py --source 0
python live.py --source film.mp4 --output out.mp4 --csv out.csv --profile
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from config import Live
from ferlib.faces.detectors import DETECTORS, open_detector
from ferlib.faces.model_files import find_checkpoint
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.files import check_distinct, check_writable
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.interrupts import on_end
from ferlib.runtime.runs import timeline_path
from ferlib.runtime.terminal import printable

if TYPE_CHECKING:
    from ferlib.faces.detection import Detector
    from ferlib.video.loop import Loop
    from ferlib.video.sources import Source

TITLE = "Facial expressions (r names regions, q ends)"
DETECTION_SIDE = {"haar": 320}  # of --detection-side: at 640 px the cascade takes 120 ms a frame, ten times YuNet's
USUAL_SIDE = 640


def run(flags: Live, settle: Callable[[], None] = lambda: None) -> Loop:
    """Processes the source to its end and writes what the flags ask for; UserError for what cannot be opened.

    settle: called when the frames have ended.
    """
    check(flags)
    from ferlib.video.recording import check_ending, recording
    from ferlib.video.sources import open_source
    from ferlib.video.window import choose_window

    if flags.output:
        check_ending(flags.output)
    source = open_source(flags.source)
    with ExitStack() as stack:
        writes_files = bool(flags.output or flags.csv or flags.jsonl)
        asked = Event()  # for the regions of the faces that are shown
        window = choose_window(TITLE, flags.window, not source.live, writes_files, keys={"r": asked.set})
        if window:
            stack.callback(window.close)
        check_outputs(flags)
        from ferlib.faces.face_model import open_face_model
        from ferlib.inference.engine import ENDLESS
        from ferlib.runtime.devices import resolve_device
        from ferlib.video.log import open_log
        from ferlib.video.loop import Loop
        from ferlib.video.pipeline import share_cores
        from ferlib.video.regions import RegionNaming
        from ferlib.video.stages import process_frames
        from ferlib.video.turning import upright

        detector = open_video_detector(flags)
        share_cores(resolve_device(flags.device))  # before the engine takes its threads
        choice = (flags.model, flags.dataset, flags.tag, flags.checkpoint, flags.outputs_dir, flags.device)
        model = open_face_model(*choice, flags, ENDLESS, cut=flags.cam)
        source = upright(source, detector)
        detector = replace(detector, turns=False)
        recorder = stack.enter_context(recording(flags.output, source.fps))
        log = stack.enter_context(open_log(flags.csv, flags.jsonl, regions=flags.regions > 0))
        loop = Loop(log, recorder, window, settle=settle)
        naming = RegionNaming(
            model,
            asked,
            every=flags.regions,
            waits=window is None and not source.live,  # elsewhere frames come at their own pace
            stopwatch=loop.stopwatch,
        )
        frames = process_frames(
            source,
            detector,
            model,
            cam=flags.cam,
            smoothing=flags.smoothing,
            seconds=flags.seconds,
            stopwatch=loop.stopwatch,
            naming=stack.enter_context(naming),
        )
        loop.run(frames, source.length)
    conclude(loop, lambda: report(loop, source, flags, model.label, detector.name))
    return loop


def conclude(loop: Loop, report: Callable[[], None]) -> None:
    """Reports on a run, then raises the error that ended its frames or its log."""
    error = loop.error or next(iter(loop.log.failed), None)
    try:
        report()
    except UserError:  # the disk that is full has no room for the timeline
        if not error:
            raise
    if error:
        raise error


def check(flags: Live) -> None:
    """UserError for flags that make no sense, before a library is loaded that takes seconds."""
    if not (math.isfinite(flags.smoothing) and flags.smoothing >= 0):
        raise UserError(f"--smoothing {flags.smoothing:g} is not a number of seconds from 0 up")
    if not (math.isfinite(flags.regions) and flags.regions >= 0):
        raise UserError(f"--regions {flags.regions:g} is not a number of seconds from 0 up")
    if flags.seconds is not None and not flags.seconds > 0:
        raise UserError(f"--seconds {flags.seconds:g} is not a number of seconds above 0")
    if flags.detection_side is not None and flags.detection_side < 64:
        raise UserError(f"--detection-side {flags.detection_side} is too small to find a face; 320 or more is usual")
    find_checkpoint(flags.model, flags.dataset, flags.tag, flags.checkpoint, flags.outputs_dir)


def check_outputs(flags: Live) -> None:
    """UserError for files that cannot be written, before the first frame instead of after the last."""
    from ferlib.video.sources import PICTURES, local_path

    outputs = (flags.output, flags.csv, flags.jsonl, timeline_of(flags))
    source = local_path(flags.source)
    check_distinct(outputs, filter(None, [source]))
    for path in filter(None, outputs):
        is_frame = path.suffix.lower() in PICTURES and source and source.resolve() == path.resolve().parent
        if is_frame:
            raise UserError(f"{path} would be a frame of {source} the next time; name a file in another folder")
    for path in filter(None, outputs):
        check_writable(path)


def timeline_of(flags: Live) -> Path:
    """The picture of the emotions over time, beside a file that is written."""
    return timeline_path(flags.outputs_dir, flags.output or flags.csv or flags.jsonl)


def open_video_detector(flags: Live) -> Detector:
    """The detector at a single size of frame."""
    detector = open_detector(flags.detector, flags.detector_weights, fast=flags.engine != "torch")
    side = flags.detection_side or DETECTION_SIDE.get(detector.name, USUAL_SIDE)
    return replace(detector, sides=(side,), fine_pixels=0)


def report(loop: Loop, source: Source, flags: Live, model: str, detector: str) -> None:
    """Draws the timeline, prints a summary with the names of model and detector, and the files written."""
    from ferlib.figures.timeline import plot_timeline
    from ferlib.video.loop import profile_table, summarize

    print(printable(f"{summarize(loop, source)}; {model}, faces detected by {DETECTORS[detector].title}"))
    written = [path for path in (flags.output, flags.csv, flags.jsonl) if path]
    if loop.log.history:
        timeline = timeline_of(flags)
        plot_timeline(timeline, loop.log.history, source.name, flags.smoothing)
        written.append(timeline)
    else:
        print("no face was found in any frame")
    for path in written:
        print(f"→ {printable(str(path))}")
    if flags.profile:
        print(profile_table(loop))


def main() -> None:
    settle = on_end(signal.default_int_handler)  # as ctrl-C, so that the frames so far are saved
    run(parse_flags(Live), settle)


if __name__ == "__main__":
    run_script(main)
