"""Times live.py from end to end, with HiResCAM on every frame, on a video made of scikit-image's photo of an astronaut.

python benchmarks/bench_live.py
python benchmarks/bench_live.py --video film.mp4 --seconds 3       only makes the video
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

sys.path.insert(0, str(Path(__file__).parents[1]))
from ferlib.runtime.flags import parse_flags
from ferlib.video.recording import recording

LIVE = Path(__file__).parents[1] / "live.py"
FACE = (222, 108)  # pixel of the face's middle in the photo, 512×512
EDGE = 6  # pixels at the photo's border that no frame shows


@dataclass(frozen=True)
class Flags:
    """Time live.py on a video of one face: python benchmarks/bench_live.py"""

    video: Path | None = None  # write this video and time nothing
    seconds: float = 12.0  # duration of the video
    fps: float = 25.0  # frames per second of the video
    width: int = 640  # pixels
    height: int = 480  # pixels
    repeats: int = 3  # runs of live.py
    device: str = "auto"  # of the model
    detector: str = "auto"  # a row of ferlib.faces.detectors.DETECTORS
    detector_weights: Path | None = None  # a file instead of the cached or downloaded one


def draw_frames(seconds: float, fps: float, width: int, height: int) -> Iterator[np.ndarray]:
    """Frames uint8 H×W×3 RGB as of a hand-held camera: the photo moves, grows and tilts; the last equals the first."""
    photo = astronaut()
    scale = max(width, height * 4 / 3) / 640
    for turn in np.arange(0, 1, 1 / round(seconds * fps)) * 2 * np.pi:
        zoom = scale * (1.85 - 0.45 * np.cos(turn))
        tilt = 7 * np.sin(2 * turn + 0.6)
        matrix = cv2.getRotationMatrix2D(FACE, tilt, zoom)
        target = np.array([width * (0.38 + 0.09 * np.sin(turn)), height * (0.42 + 0.07 * np.sin(3 * turn))])
        matrix[:, 2] += clip_position(matrix, target, photo.shape[0], width, height) - np.array(FACE)
        yield cv2.warpAffine(photo, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def clip_position(matrix: np.ndarray, target: np.ndarray, side: int, width: int, height: int) -> np.ndarray:
    """The position of the face nearest to `target` at which the photo, were it level, still fills the frame."""
    zoom = np.hypot(*matrix[0, :2])
    low = np.array([width, height]) - zoom * (side - EDGE - np.array(FACE))
    high = zoom * (np.array(FACE) - EDGE)
    return np.clip(target, np.minimum(low, high), np.maximum(low, high))


def make_video(path: Path, flags: Flags) -> None:
    """Writes the frames to a video file."""
    with recording(path, flags.fps) as recorder:
        assert recorder is not None
        for number, picture in enumerate(draw_frames(flags.seconds, flags.fps, flags.width, flags.height)):
            recorder.add(picture, number / flags.fps)


def time_live(video: Path, output: Path, flags: Flags) -> tuple[float, str]:
    """Frames per second, and the output of live.py."""
    command = [sys.executable, str(LIVE), "--source", str(video), "--output", str(output), "--profile", "--no-window"]
    command += ["--csv", str(output.with_suffix(".csv")), "--device", flags.device, "--detector", flags.detector]
    command += ["--detector-weights", str(flags.detector_weights)] if flags.detector_weights else []
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(re.search(r"([\d.]+) frames/s", text)[1]), text


def main() -> None:
    flags = parse_flags(Flags)
    if flags.video:
        make_video(flags.video, flags)
        return
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "astronaut.mp4"
        make_video(video, flags)
        runs = [time_live(video, Path(folder) / "out.mp4", flags) for _ in range(flags.repeats)]
    rates = sorted(rate for rate, _ in runs)
    print(runs[-1][1])
    print(f"{len(rates)} runs: {', '.join(f'{rate:.1f}' for rate in rates)} frames/s from end to end")


if __name__ == "__main__":
    main()
