"""Where an edited picture lies: its own pixels, the model's pixels, and what is redrawn of them."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gensynth.data.colour import Profile, with_profile
from gensynth.data.images import pad_square, to_tensor, upright
from gensynth.errors import UsageError
from gensynth.pipelines.editing.mask import nothing_masked, redrawn_by

MAX_ASPECT = 16  # long side over short side; beyond it the work canvas is a thread of tokens
MAX_PIXELS = 2**27  # of a larger canvas, about 11,000 x 11,000
FAR = 2**30  # pixels, more than any picture has
# Where the image lies on a larger canvas: shares of the new rows above it and columns before it.
ANCHORS = {
    "center": (0.5, 0.5),
    "top": (0.0, 0.5),
    "bottom": (1.0, 0.5),
    "left": (0.5, 0.0),
    "right": (0.5, 1.0),
    "top-left": (0.0, 0.0),
    "top-right": (0.0, 1.0),
    "bottom-left": (1.0, 0.0),
    "bottom-right": (1.0, 1.0),
}


@dataclass(frozen=True)
class Canvas:
    """A picture to be redrawn in part.

    Attributes:
        picture: mode L or RGB, at its own size [H, W]; new area repeats the edge of the image.
        redrawn: bool [H, W], which of its pixels are to be replaced.
        corner: row and column of the given image's first pixel in it.
        work: height and width in the model's pixels.
        padded: whether the picture lies unscaled in the middle of the work canvas; else it is
            resized to it.
        profile: of the picture's colours, if they are not those of sRGB.
    """

    picture: Image.Image
    redrawn: np.ndarray
    corner: tuple[int, int]
    work: tuple[int, int]
    padded: bool
    profile: Profile | None = None

    @property
    def margin(self) -> tuple[int, int]:
        """Row and column of the picture's first pixel in a padded work canvas."""
        height, width = self.work
        return (height - self.picture.height) // 2, (width - self.picture.width) // 2

    def work_pixels(self, channels: int) -> Tensor:
        """The picture on the work canvas, uint8 [channels, h, w], without what is redrawn of it.

        There every pixel is the nearest kept one's: what lies under the mask has no effect.
        """
        image = self.picture
        if not self.redrawn.all():
            rows, columns, _ = self.nearest
            image = Image.fromarray(np.asarray(image)[rows, columns])
        image = self.shown(image).convert("L" if channels == 1 else "RGB")
        if self.padded:
            return to_tensor(pad_square(image, self.work[0]))
        return to_tensor(image.resize(self.work[::-1], Image.Resampling.BICUBIC))

    def redrawn_tokens(self, grid: tuple[int, int]) -> Tensor:
        """bool [h, w], the tokens in whose square a redrawn pixel lies, wholly or in part."""
        pixels = self.redrawn
        if self.padded:
            top, left = self.margin
            pixels = np.zeros(self.work, dtype=bool)
            pixels[top : top + self.picture.height, left : left + self.picture.width] = self.redrawn
        # The windows of this pooling cover whole pixels, also where a token is smaller than one.
        return F.adaptive_max_pool2d(torch.from_numpy(pixels).float()[None], grid)[0] > 0

    def pixels_of_a_token(self, patch: int) -> float:
        """How many pixels of the picture one token's side covers; `patch` on the work canvas."""
        if self.padded:
            return patch
        return patch * math.sqrt(self.redrawn.size / math.prod(self.work))

    @cached_property
    def nearest(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row and column of the kept pixel nearest to each, and the steps to it: int64 [H, W].

        Steps are along rows and columns. Some pixel has to be kept.
        """
        height, width = self.redrawn.shape
        y, x = np.arange(height)[:, None], np.arange(width)[None]
        # In its own column first; then, over all columns, the least sum. Each sum carries the
        # number of its column along, so that the least one says which it is.
        above = np.maximum.accumulate(np.where(self.redrawn, -FAR, y), axis=0)
        below = np.minimum.accumulate(np.where(self.redrawn, FAR, y)[::-1], axis=0)[::-1]
        row = np.where(y - above <= below - y, above, below)
        steps = np.abs(row - y)
        left = np.minimum.accumulate((steps - x) * width + x, axis=1) % width
        right = np.minimum.accumulate(((steps + x) * width + x)[:, ::-1], axis=1)[:, ::-1] % width
        from_left = np.take_along_axis(steps, left, 1) + x - left
        from_right = np.take_along_axis(steps, right, 1) + right - x
        column = np.where(from_left <= from_right, left, right)
        return np.take_along_axis(row, column, 1), column, np.minimum(from_left, from_right)

    def shown(self, image: Image.Image) -> Image.Image:
        """An image of the picture's colours in those of sRGB."""
        return image if self.profile is None else self.profile.to_srgb(image)

    def finished(self, drawn: Image.Image, edge: int) -> Image.Image:
        """The picture with the redrawn pixels of `drawn`, an image of the work canvas's size.

        A share of `drawn` that grows over `edge` pixels from the border of the mask inwards is
        blended into the picture. Kept pixels are those of the picture, bit for bit, and so is its
        colour profile.
        """
        result = self._redrawn(drawn, edge)
        if self.profile is not None:
            result.info["icc_profile"] = self.profile.icc  # Pillow writes it into files
        return result

    def _redrawn(self, drawn: Image.Image, edge: int) -> Image.Image:
        if self.padded:
            top, left = self.margin
            drawn = drawn.crop((left, top, left + self.picture.width, top + self.picture.height))
        else:
            drawn = drawn.resize(self.picture.size, Image.Resampling.BICUBIC)
        drawn = drawn.convert(self.picture.mode)
        if self.profile is not None:
            drawn = self.profile.from_srgb(drawn)
        if self.redrawn.all():
            return drawn
        share = np.minimum(self.nearest[2].astype(np.float32) / (edge + 1), 1)
        old, new = np.asarray(self.picture), np.asarray(drawn)
        redrawn = self.redrawn
        if old.ndim == 3:
            share, redrawn = share[..., None], redrawn[..., None]
        # float32: differences of uint8 would wrap around.
        blended = (old + share * (new.astype(np.float32) - old)).round().astype(np.uint8)
        return Image.fromarray(np.where(redrawn, blended, old))


def make_canvas(
    image: Image.Image,
    mask: Image.Image | None,
    outpaint: tuple[int, int] | None,
    anchor: str,
    colour: bool,
    size: int,
    multiple: int,
    pad: bool,
) -> Canvas:
    """The canvas of an image, with everything redrawn if there is neither mask nor new area.

    Image and mask are turned as their EXIF orientation says.

    Args:
        mask: white where the image is to be redrawn.
        outpaint: height and width in pixels of a larger canvas; the new area is redrawn.
        anchor: where the image lies on it, a key of `ANCHORS`.
        colour: whether the model draws colours; the picture is RGB then, or if the image is.
        size: pixels of a side of the model's images.
        multiple: what the sides of the work canvas must be multiples of.
        pad: whether the model was trained on images with black around them.

    Raises:
        UsageError: a mask that does not fit or keeps all or nothing, a canvas that is not larger,
            or a picture that is too narrow.
    """
    image, mask = upright(image), None if mask is None else upright(mask)
    flat, profile = with_profile(image)
    if colour and profile is not None and profile.mode == "L":  # says nothing of colours
        flat, profile = profile.to_srgb(flat), None
    flat = flat.convert("RGB") if colour else flat
    redrawn = None if mask is None else redrawn_by(mask, flat.size)
    if mask is not None and redrawn is not None and not redrawn.any() and outpaint is None:
        raise nothing_masked(mask)
    picture, corner = flat, (0, 0)
    if outpaint is not None:
        picture, redrawn, corner = _extended(flat, redrawn, outpaint, anchor)
    elif anchor != "center":
        raise UsageError(
            "an anchor says where the image lies on a larger canvas; give outpaint too, or no "
            "anchor."
        )
    if redrawn is None:
        redrawn = np.ones((picture.height, picture.width), dtype=bool)
    elif redrawn.all():
        raise UsageError(
            "everything would be redrawn; that is gensynth sample, or leave the mask away for "
            "variations."
        )
    work, padded = work_size(picture.size, size, multiple, pad)
    return Canvas(picture, redrawn, corner, work, padded, profile)


def work_size(
    own: tuple[int, int], size: int, multiple: int, pad: bool
) -> tuple[tuple[int, int], bool]:
    """Height and width of the work canvas, and whether the picture is padded to it, not resized.

    With `pad`, a picture whose longer side is from half of `size` to `size` is padded to a square
    of `size`. Another is resized to about the area of that square, sides to the nearest multiple.

    Args:
        own: width and height of the picture.

    Raises:
        UsageError: a picture that is too narrow.
    """
    width, height = own
    if max(own) > MAX_ASPECT * min(own):
        raise UsageError(
            f"a picture of {height}x{width} (height x width) is too narrow to edit; the longer "
            f"side may be {MAX_ASPECT} times the shorter, so cut a part out first."
        )
    if pad and size / 2 <= max(own) <= size:
        return (size, size), True
    scale = size / math.sqrt(width * height)  # to the area of size x size
    rows, columns = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    return (rows, columns), False


def _extended(
    flat: Image.Image, redrawn: np.ndarray | None, outpaint: tuple[int, int], anchor: str
) -> tuple[Image.Image, np.ndarray, tuple[int, int]]:
    """The picture, what is redrawn and the image's corner on a larger canvas."""
    height, width = outpaint
    rows, columns = height - flat.height, width - flat.width
    if rows < 0 or columns < 0 or rows + columns == 0:
        raise UsageError(
            f"outpaint {height}x{width} must be larger than the image's {flat.height}x{flat.width} "
            "(height x width) in one direction and not smaller in the other."
        )
    if height * width > MAX_PIXELS:
        raise UsageError(
            f"outpaint {height}x{width} has too many pixels; {MAX_PIXELS:,} are possible."
        )
    if anchor not in ANCHORS:
        raise UsageError(f"anchor must be one of {', '.join(ANCHORS)}, got {anchor!r}.")
    top, left = (
        int(gap * share) for gap, share in zip((rows, columns), ANCHORS[anchor], strict=True)
    )
    around = ((top, rows - top), (left, columns - left))
    if redrawn is None:
        redrawn = np.zeros((flat.height, flat.width), dtype=bool)
    pixels = np.asarray(flat)
    extended = np.pad(pixels, around if pixels.ndim == 2 else (*around, (0, 0)), mode="edge")
    return Image.fromarray(extended), np.pad(redrawn, around, constant_values=True), (top, left)
