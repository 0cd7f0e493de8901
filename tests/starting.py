"""A script started in a fresh Python: how it ends, and which large packages it has loaded by then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LARGE = ("torch", "torchvision", "timm", "cv2", "gradio", "matplotlib", "scipy", "sklearn", "skimage", "pandas")


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
