"""What the processor multiplies fast: vector width, bfloat16, 8-bit numbers."""

from __future__ import annotations

import platform
import re
from pathlib import Path

# extension → the word for it among the processor's flags, on Linux
EXTENSIONS = {
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "bfloat16": "avx512_bf16|amx_bf16|avx_ne_convert|bf16",
    "VNNI": "avx512_vnni|avx_vnni",
    "AMX": "amx_tile",
}


def describe_processor() -> str:
    """Its name and which of EXTENSIONS it has, such as "Intel Xeon: AVX2, AVX-512, VNNI"; the name alone elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:  # no Linux
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = re.sub(r"\((R|TM)\)|\s+Processor$", "", found[1]).strip() if found else platform.machine()
    extensions = find_extensions(text)
    return f"{name}: {', '.join(extensions)}" if extensions else name


def find_extensions(cpuinfo: str) -> list[str]:
    """Names of the EXTENSIONS in the text of /proc/cpuinfo."""
    flags = re.search(r"^(flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    own = set(flags[2].split()) if flags else set()
    return [name for name, words in EXTENSIONS.items() if own.intersection(words.split("|"))]
