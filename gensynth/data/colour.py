"""Pictures of any mode and colour profile as plain grey or RGB, in the colours of sRGB.

sRGB is what networks and screens take pixels for; a picture may hold numbers of another space.
"""

import io
import logging
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

LOGGER = logging.getLogger(__name__)
SRGB = ImageCms.createProfile("sRGB")
# What ImageCms raises for profiles that are damaged, or of another number of channels.
UNUSABLE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)
MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # a profile's word for its numbers -> Pillow's
GREY_MODES = ("1", "L", "LA", "La", "I", "F")
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


def is_grey(image: Image.Image) -> bool:
    """Whether the image's mode has no colours."""
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def has_alpha(image: Image.Image) -> bool:
    """Whether a part of the image may be transparent."""
    return image.mode in WITH_ALPHA or "transparency" in image.info


def flatten(image: Image.Image) -> Image.Image:
    """An image of any mode as L if it is grey, else as RGB, without regard to its profile.

    16-bit greyscale is scaled to 8 bits; transparency is laid over white; CMYK, Lab and palettes
    are converted.
    """
    grey = is_grey(image)
    image = _eight_bits(image)
    if has_alpha(image):
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("L" if grey else "RGB")


def in_srgb(image: Image.Image) -> Image.Image:
    """An image of any mode as L or RGB, in the colours of sRGB, as `flatten` makes it."""
    profile = profile_of(image)
    return flatten(image if profile is None else profile.to_srgb(_plain(image)))


def with_profile(image: Image.Image) -> "tuple[Image.Image, Profile | None]":
    """An image of any mode as L or RGB with its own numbers, and the profile of their colours.

    The profile is None where they are those of sRGB; they are brought to it if colours of sRGB
    cannot be brought back. Transparency is laid over white in sRGB, as viewers do.
    """
    profile = profile_of(image)
    if profile is None:
        return flatten(image), None
    if not profile.has_way_back():
        return in_srgb(image), None
    if not has_alpha(image):
        return flatten(image), profile
    opaque = image.convert("RGBA").getchannel("A").point([0] * 255 + [255])
    seen = profile.from_srgb(in_srgb(image))
    return Image.composite(flatten(image), seen, opaque), profile


@dataclass(frozen=True)
class Profile:
    """The space of a picture's colours, which is not sRGB.

    Attributes:
        icc: its bytes, as files hold them.
        mode: of the pixels that it speaks of: L, RGB or CMYK.
    """

    icc: bytes
    mode: str

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """A picture (L, LA, RGB, RGBA or CMYK) of these colours in those of sRGB.

        Grey stays grey and transparency stays; CMYK becomes RGB.
        """
        changed = self._changed(image.convert(self.mode), backwards=False)
        if image.mode == "CMYK":
            return changed
        changed = changed.convert("L" if is_grey(image) else "RGB")
        if has_alpha(image):
            changed.putalpha(image.getchannel("A"))
        return changed

    def from_srgb(self, image: Image.Image) -> Image.Image:
        """A picture (L or RGB) of sRGB in these colours, in the same mode."""
        return self._changed(image.convert("RGB"), backwards=True).convert(image.mode)

    def _changed(self, image: Image.Image, backwards: bool) -> Image.Image:
        changed = _transform(self, backwards).apply(image)
        changed.info.pop("icc_profile", None)
        return changed

    def has_way_back(self) -> bool:
        """Whether `from_srgb` works: CMYK has many numbers for a colour, a scanner's profile may
        name none."""
        try:
            return self.mode != "CMYK" and _transform(self, backwards=True) is not None
        except UNUSABLE:
            return False

    def is_srgb(self) -> bool:
        """Whether it calls itself sRGB, or its colours are those of sRGB up to rounding."""
        if self.mode == "CMYK":
            return False
        name = ImageCms.getProfileDescription(_opened(self.icc)).lower()
        if self.mode == "RGB" and "srgb" in name and "linear" not in name:
            return True  # converting sRGB to itself would only round
        levels = np.arange(256, dtype=np.uint8)[None]
        if self.mode == "RGB":  # 512 colours
            levels = np.stack(np.meshgrid(*[levels[0, ::36]] * 3), axis=-1).reshape(1, -1, 3)
        same = np.asarray(self.to_srgb(Image.fromarray(levels))).astype(int)
        return bool(np.abs(same - levels).max() <= 1)


def profile_of(image: Image.Image) -> Profile | None:
    """The profile of a picture's colours; None for those of sRGB.

    One that is damaged, or of other numbers than the image's, says nothing, as in viewers; the log
    says so, once. One of RGB also speaks of grey, as equal channels.
    """
    icc = image.info.get("icc_profile")
    if not icc or image.mode == "LAB":  # Lab says by itself which colours it means
        return None
    mode = "CMYK" if image.mode == "CMYK" else "L" if is_grey(image) else "RGB"
    return _read(bytes(icc), mode)


# Pictures come by the million, profiles by the handful: each is looked at once.
@lru_cache(maxsize=32)
def _read(icc: bytes, mode: str) -> Profile | None:
    try:
        space = _opened(icc).profile.xcolor_space.strip()
        profile = Profile(icc, MODES.get(space, space))
        if profile.mode == mode or (profile.mode == "RGB" and mode == "L"):
            return None if profile.is_srgb() else profile
    except UNUSABLE as error:
        LOGGER.warning("a colour profile cannot be used (%s); taken for sRGB.", error)
        return None
    LOGGER.warning("a colour profile of %s in a picture of %s; taken for sRGB.", space, mode)
    return None


@lru_cache(maxsize=32)
def _transform(profile: Profile, backwards: bool) -> ImageCms.ImageCmsTransform:
    """Between L, RGB or CMYK of a profile and RGB of sRGB."""
    own = _opened(profile.icc)
    if backwards:
        return ImageCms.buildTransform(SRGB, own, "RGB", profile.mode)
    return ImageCms.buildTransform(own, SRGB, profile.mode, "RGB")


def _opened(icc: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(icc))


def _plain(image: Image.Image) -> Image.Image:
    """An image of any mode as L, LA, RGB, RGBA or CMYK."""
    image = _eight_bits(image)
    if image.mode == "CMYK":
        return image
    return image.convert(("L" if is_grey(image) else "RGB") + ("A" if has_alpha(image) else ""))


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits, or of whole numbers or floats, as L; any other as it is."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    # Pillow clips 16-bit values when it converts them; users mean a rescale.
    # 65535 / 255 = 257
    depth = 257 if image.mode != "F" else 1
    levels = np.clip(np.asarray(image, dtype=np.float64) / depth, 0, 255)
    return Image.fromarray(levels.round().astype(np.uint8))
