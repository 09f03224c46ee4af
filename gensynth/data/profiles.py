"""Colour profiles: models know the colours of sRGB, pictures may hold those of another space."""

import io
import logging
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from gensynth.data.images import flatten

LOGGER = logging.getLogger(__name__)
MODES = {"GRAY": "L", "RGB": "RGB"}  # a profile's word for its numbers -> Pillow's


@dataclass(frozen=True)
class Profile:
    """The space of a picture's colours, which is not sRGB.

    Attributes:
        icc: its bytes, as files hold them.
        mode: of the pixels that it speaks of, L or RGB.
    """

    icc: bytes
    mode: str

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """A picture (L or RGB) of these colours in those of sRGB, in the same mode."""
        return self._changed(image, self.mode, "RGB", backwards=False)

    def from_srgb(self, image: Image.Image) -> Image.Image:
        """A picture (L or RGB) of sRGB in these colours, in the same mode."""
        return self._changed(image, "RGB", self.mode, backwards=True)

    def _changed(self, image: Image.Image, before: str, after: str, backwards: bool) -> Image.Image:
        own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(self.icc)), ImageCms.createProfile("sRGB")
        one, other = (srgb, own) if backwards else (own, srgb)
        changed = ImageCms.profileToProfile(image.convert(before), one, other, outputMode=after)
        assert changed is not None  # it is, unless the change is made in place
        changed = changed.convert(image.mode)
        changed.info.pop("icc_profile", None)
        return changed

    def is_srgb(self) -> bool:
        """Whether its colours are those of sRGB, up to rounding."""
        levels = np.arange(256, dtype=np.uint8)[None]
        if self.mode == "RGB":  # 512 colours
            levels = np.stack(np.meshgrid(*[levels[0, ::36]] * 3), axis=-1).reshape(1, -1, 3)
        same = np.asarray(self.to_srgb(Image.fromarray(levels))).astype(int)
        return bool(np.abs(same - levels).max() <= 1)


def with_profile(image: Image.Image) -> tuple[Image.Image, Profile | None]:
    """An image of any mode as L or RGB, and the profile of its colours; None for those of sRGB.

    CMYK is brought to sRGB by its profile. A profile that is damaged, or of other numbers than the
    image's, says nothing, as in viewers; the log says so.
    """
    icc = image.info.get("icc_profile")
    if not icc:
        return flatten(image), None
    try:
        known = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = known.profile.xcolor_space.strip()
        if space == image.mode == "CMYK":
            converted = ImageCms.profileToProfile(
                image, known, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            assert converted is not None
            converted.info.pop("icc_profile", None)
            return converted, None
        flat = flatten(image)
        if image.mode != "CMYK" and (MODES.get(space) in ("RGB", flat.mode)):
            profile = Profile(icc, MODES[space])
            return flat, None if profile.is_srgb() else profile
    except (OSError, ImageCms.PyCMSError) as error:
        LOGGER.warning("a colour profile cannot be used (%s); taken for sRGB.", error)
        return flatten(image), None
    LOGGER.warning("a colour profile of %s in a picture of %s; taken for sRGB.", space, image.mode)
    return flatten(image), None


def in_srgb(image: Image.Image) -> Image.Image:
    """An image of any mode as L or RGB, in the colours of sRGB."""
    flat, profile = with_profile(image)
    return flat if profile is None else profile.to_srgb(flat)
