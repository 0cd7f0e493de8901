"""Commands load large packages, which takes seconds, when they need them; --help and wrong names need none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from config import EMOTIONS
from ferlib.data.synthetic.faces import draw_face

ROOT = Path(__file__).parents[1]
LARGE = (
    "torch", "torch._dynamo", "sympy", "torchvision", "timm", "cv2", "gradio", "matplotlib", "scipy", "sklearn",
    "skimage", "pandas", "captum", "lime", "shap", "numba", "openvino", "nncf",
)  # fmt: skip


def start(script: str, *flags: str) -> tuple[int, set[str], str]:
    """Exit status, the large packages loaded, and what was printed, of a script with these flags."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = {[script, *flags]!r}\n"
        f"try:\n    runpy.run_path({script!r}, run_name='__main__')\n"
        f"finally:\n    print('\\nloaded:', *sorted(set({LARGE!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    printed, _, loaded = done.stdout.rpartition("\nloaded:")
    return done.returncode, set(loaded.split()), printed + done.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train.py --help", "--recipe"),
        ("train.py --model nonsense", "unknown model"),
        ("train.py --dataset nonsense", "unknown data set"),
        ("train.py --recipe nonsense", "unknown recipe"),
        ("tune.py --preset nonsense", "unknown preset"),
        ("tune.py --search nonsense=1", "unknown setting"),
        ("evaluate.py --model nonsense", "unknown model"),
        ("evaluate.py --dataset nonsense", "unknown data set"),
        ("evaluate.py --views nonsense", "ten_crop"),
        ("ensemble.py --dataset nonsense", "unknown data set"),
        ("export.py --model nonsense", "unknown model"),
        ("explain_lime.py --help", "--lime-samples"),
        ("explain_lime.py --baseline nonsense", "--baseline nonsense"),
        ("explain_shap.py --model nonsense", "unknown model"),
        ("explain_gradcam.py --method nonsense", "scorecam"),
        ("explain_saliency.py --target nonsense", "--target nonsense"),
        ("explain_occlusion.py --dataset nonsense", "unknown data set"),
        ("report_generator.py --dataset nonsense", "unknown data set"),
        ("datasets.py --dataset nonsense", "unknown data set"),
        ("monitor.py --interval -1", "--interval -1"),
        ("predict.py --help", "--explain"),
        ("predict.py a.png --explain nonsense", "unknown method"),
        ("predict.py a.png --detector nonsense", "yunet"),
        ("predict.py a.png --model nonsense --dataset fer2013", "unknown model"),
        ("predict.py a.png --target nonsense", "unknown expression"),
        ("predict.py nonsense.png", "does not exist"),
        ("live.py --help", "--smoothing"),
        ("live.py --detector nonsense", "yunet"),
        ("live.py --model nonsense --dataset fer2013", "unknown model"),
        ("live.py --checkpoint nonsense.pth", "does not exist"),
        ("live.py --smoothing -1", "--smoothing"),
        ("app.py --help", "--keep-seconds"),
        ("app.py --detector nonsense", "yunet"),
        ("app.py --checkpoint nonsense.pth", "does not exist"),
        ("app.py --port 70000", "--port 70000"),
    ],
)
def test_help_and_wrong_names_load_no_large_package(command: str, message: str) -> None:
    status, loaded, printed = start(*command.split())
    assert (status != 0) == ("--help" not in command)
    assert message in printed
    assert loaded == set()


@pytest.mark.process
def test_predicting_a_photo_loads_what_the_shipped_network_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither torch's compiler, nor other networks' packages, nor what draws and fits figures."""
    Image.fromarray(draw_face(EMOTIONS.index("Happy"), subject=0, sample=0, size=96).image).save(tmp_path / "face.png")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # without converted networks, which need OpenVINO
    flags = "--whole", "--json", str(tmp_path / "faces.json"), "--outputs-dir", str(tmp_path)
    status, loaded, printed = start("predict.py", str(tmp_path / "face.png"), *flags)
    assert status == 0, printed
    assert (tmp_path / "predictions" / "face.jpg").exists()
    assert loaded == {"torch", "cv2"}
