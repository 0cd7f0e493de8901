"""The baseline: what stands in for hidden pixels, one concept for LIME, KernelSHAP, occlusion, integrated gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferlib.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

LEVELS = {"grey": 0.5, "black": 0.0}
NAMES = ("grey", "mean", "blur", "black")
BLUR = 0.1  # standard deviation of the Gaussian as a share of the face's side: expressions can no longer be recognised


def check_baseline(baseline: str | float, flag: str = "--baseline", also: tuple[str, ...] = ()) -> None:
    """UserError unless `baseline` is a name, one of `also`, or a grey level in 0..1."""
    if baseline in NAMES or baseline in also:
        return
    try:
        level = float(baseline)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        names = ", ".join((*NAMES, *also))
        raise UserError(f"{flag} {baseline} is unknown; valid are {names}, or a grey level in 0..1")


def grey_level(baseline: str | float) -> float | None:
    """The grey level of a baseline that is one level everywhere; None for others."""
    if isinstance(baseline, str) and baseline in NAMES:
        return LEVELS.get(baseline)
    return float(baseline)


def make_baseline(images: torch.Tensor, baseline: str | float) -> torch.Tensor:
    """The baseline of each of the images N×C×H×W in 0..1, of the same shape.

    grey: 0.5, black: 0, a number: that level; mean: each channel's mean over the image; blur: the image convolved with
    a Gaussian of standard deviation BLUR · H. UserError for other names.
    """
    import torch

    check_baseline(baseline)
    level = grey_level(baseline)
    if level is not None:
        return torch.full_like(images, level)
    if baseline == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images).contiguous()
    return gaussian(images, BLUR)


def gaussian(images: torch.Tensor, share: float) -> torch.Tensor:
    """N×C×H×W convolved with a Gaussian of standard deviation share · H, the border continued by its own pixels."""
    import torch
    import torch.nn.functional as F

    deviation = max(share * images.shape[2], 0.5)
    reach = int(3 * deviation) + 1
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device) / deviation) ** 2).to(images.dtype)
    taps = (taps / taps.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, taps[..., None, :], groups=images.shape[1])
    return F.conv2d(rows, taps[..., None], groups=images.shape[1])


def describe_baseline(baseline: str | float) -> str:
    """In words, for the footnote of a figure: "grey 0.5", "mean of the face", "blurred face", "mean of the region"."""
    words = {"mean": "mean of the face", "blur": "blurred face", "black": "black", "region": "mean of the region"}
    words["background"] = "mean of other faces"
    if baseline in words:
        return words[str(baseline)]
    return f"grey {LEVELS.get(str(baseline), baseline)}"
