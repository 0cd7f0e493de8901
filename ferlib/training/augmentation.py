"""Random variations of a batch of faces on its device: affine maps, jitter, erasing, mixup, cutmix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ferlib.inference.views import to_float
from models import ModelSpec
from recipes import Augmentation

SMALLEST, TRIES = 0.02, 10  # of erased rectangles: share of the face, and how many are drawn for one that lies inside


def augment(
    images: torch.Tensor, spec: ModelSpec, augmentation: Augmentation, generator: torch.Generator
) -> torch.Tensor:
    """One random view per face, in a single resampling: uint8 N×H×W×C → float N×C×size×size in 0..1."""
    faces = to_float(images, spec)
    size = [len(faces), faces.shape[1], spec.image_size, spec.image_size]
    grid = F.affine_grid(random_affine(len(faces), spec, augmentation, generator), size, align_corners=False)
    faces = F.grid_sample(faces, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    faces = jitter(faces, augmentation.brightness, augmentation.contrast, generator)
    faces = erase(faces, augmentation, spec.mean, generator)
    return faces.contiguous(memory_format=torch.channels_last)


def random_affine(count: int, spec: ModelSpec, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """N×2×3 maps from the output's to the input's coordinates in -1..1: crop, flip, rotation, scale, shift at once."""
    angle = torch.deg2rad(uniform(count, augmentation.rotation, generator))
    zoom = spec.image_size / spec.scaled_size * (1 + uniform(count, augmentation.scale, generator))
    flip = 1 - 2 * (torch.rand(count, generator=generator, device=generator.device) < augmentation.flip).float()
    margin = 1 - spec.image_size / spec.scaled_size  # a crop smaller than the face may lie anywhere in it
    shift_x = uniform(count, margin + 2 * augmentation.shift, generator)
    shift_y = uniform(count, margin + 2 * augmentation.shift, generator)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    return torch.stack([cos * flip, -sin, shift_x, sin * flip, cos, shift_y], 1).view(count, 2, 3)


def jitter(faces: torch.Tensor, brightness: float, contrast: float, generator: torch.Generator) -> torch.Tensor:
    """Random contrast about each face's own mean, then random brightness, each relative ±; the result is in 0..1."""
    if not contrast and not brightness:
        return faces
    contrasts = 1 + uniform(len(faces), contrast, generator).view(-1, 1, 1, 1)
    factors = 1 + uniform(len(faces), brightness, generator).view(-1, 1, 1, 1)
    mean = faces.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, faces, contrasts).mul_(factors).clamp_(0, 1)


def erase(
    faces: torch.Tensor, augmentation: Augmentation, mean: Sequence[float], generator: torch.Generator
) -> torch.Tensor:
    """A rectangle of one colour over a share of the faces N×C×H×W (Zhong et al., "Random Erasing", 2020).

    mean: the colour in 0..1 that the model's normalisation makes 0; grey faces get its channels where it is the fill.
    """
    if not augmentation.erasing:
        return faces
    draw = whole_rectangles if augmentation.erasing_inside else cut_rectangles
    erased = draw(faces, augmentation.erasing, augmentation.erasing_area, generator)
    if augmentation.erasing_fill == "grey":
        return faces.masked_fill(erased, 0.5)
    return torch.where(erased, torch.tensor(mean, device=faces.device).view(1, -1, 1, 1), faces)


def cut_rectangles(faces: torch.Tensor, probability: float, largest: float, generator: torch.Generator) -> torch.Tensor:
    """bool N×1×H×W: rectangles whose centres lie anywhere, of which the edges of a face may cut a part."""
    count, _, height, width = faces.shape
    random = torch.rand(5, count, 1, 1, 1, generator=generator, device=generator.device)
    area = SMALLEST + (largest - SMALLEST) * random[0]
    aspect = torch.exp((2 * random[1] - 1) * 1.2)  # 0.3 to 3.3
    half_height, half_width = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    rows = (torch.arange(height, device=faces.device).view(1, 1, -1, 1) + 0.5) / height
    columns = (torch.arange(width, device=faces.device).view(1, 1, 1, -1) + 0.5) / width
    inside = ((rows - random[2]).abs() < half_height) & ((columns - random[3]).abs() < half_width)
    return inside & (random[4] < probability)


def whole_rectangles(
    faces: torch.Tensor, probability: float, largest: float, generator: torch.Generator
) -> torch.Tensor:
    """bool N×1×H×W: rectangles that lie in the face, with the distribution of torchvision's RandomErasing.

    As there, sides are whole pixels, and the first of ten that fits is taken; a face for which none fits has none.
    """
    count, _, height, width = faces.shape
    random = torch.rand(2, TRIES, count, generator=generator, device=generator.device)
    area = height * width * (SMALLEST + (largest - SMALLEST) * random[0])
    aspect = torch.exp(math.log(0.3) + math.log(3.3 / 0.3) * random[1])
    heights, widths = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (heights < height) & (widths < width)
    first = fits.int().argmax(0, keepdim=True)
    heights, widths = (sides.gather(0, first).view(count, 1, 1, 1) for sides in (heights, widths))
    place = torch.rand(3, count, 1, 1, 1, generator=generator, device=generator.device)
    tops, lefts = (place[0] * (height - heights + 1)).floor(), (place[1] * (width - widths + 1)).floor()
    rows = torch.arange(height, device=faces.device).view(1, 1, -1, 1)
    columns = torch.arange(width, device=faces.device).view(1, 1, 1, -1)
    inside = (rows >= tops) & (rows < tops + heights) & (columns >= lefts) & (columns < lefts + widths)
    return inside & (place[2] < probability) & fits.any(0).view(count, 1, 1, 1)


def uniform(count: int, limit: float, generator: torch.Generator) -> torch.Tensor:
    """N values uniform in ±limit."""
    return (2 * torch.rand(count, generator=generator, device=generator.device) - 1) * limit


def mix(
    faces: torch.Tensor,
    targets: torch.Tensor,
    generator: torch.Generator,
    *,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup or cutmix, one of them per batch, of faces N×C×H×W and targets N×classes with a shuffled copy of both."""
    methods = [(method, alpha) for method, alpha in ((mixup, mixup_alpha), (cutmix, cutmix_alpha)) if alpha]
    if not methods:
        return faces, targets
    method, alpha = methods[0] if len(methods) == 1 else methods[coin(generator)]
    order = torch.randperm(len(faces), generator=generator, device=generator.device)
    return method(faces, targets, order, alpha, generator)


def mixup(
    faces: torch.Tensor, targets: torch.Tensor, order: torch.Tensor, alpha: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted means of pairs (Zhang et al., 2018, equation 1); `order` N gives each face its partner."""
    weight = beta(alpha, generator)
    return torch.lerp(faces[order], faces, weight), torch.lerp(targets[order], targets, weight)


def cutmix(
    faces: torch.Tensor, targets: torch.Tensor, order: torch.Tensor, alpha: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A rectangle of one face pasted into the other; targets weighted by area (Yun et al., 2019, equation 1)."""
    height, width = faces.shape[-2:]
    side = (1 - beta(alpha, generator)).sqrt()
    centre = torch.rand(2, generator=generator, device=generator.device)
    rows = ((torch.arange(height, device=faces.device) + 0.5) / height - centre[0]).abs() < side / 2
    columns = ((torch.arange(width, device=faces.device) + 0.5) / width - centre[1]).abs() < side / 2
    inside = rows.view(-1, 1) & columns.view(1, -1)
    return torch.where(inside, faces[order], faces), torch.lerp(targets, targets[order], inside.float().mean())


def beta(alpha: float, generator: torch.Generator) -> torch.Tensor:
    """One draw of Beta(alpha, alpha), as the share of one of two gamma variates."""
    concentration = torch.full((2,), alpha, device=generator.device)
    gammas = torch._standard_gamma(concentration, generator=generator)
    return gammas[0] / gammas.sum()


def coin(generator: torch.Generator) -> int:
    """0 or 1, equally often."""
    return int(torch.randint(2, (), generator=generator, device=generator.device))
