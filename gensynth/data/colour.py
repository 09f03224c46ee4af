"""Pictures with a colour profile as sRGB, which is what networks and screens take pixels for."""

import io
from functools import lru_cache

from PIL import Image, ImageCms

SRGB = ImageCms.createProfile("sRGB")
LAB = ImageCms.createProfile("LAB")
# What ImageCms raises for profiles that are damaged, or of another number of channels.
UNUSABLE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


def to_srgb(image: Image.Image) -> Image.Image:
    """A picture whose levels mean sRGB, by the profile that is embedded in it.

    Grey stays grey and transparency stays. A picture without a profile, with one of sRGB or with
    one that cannot be used is returned as it is. Levels of 16 bits have to be scaled before.
    """
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _of_lab()) or image
    profile = image.info.get("icc_profile")
    if not profile or image.mode in ("1", "I", "F") or image.mode.startswith("I;16"):
        return image
    if image.mode in ("P", "PA", "RGBa", "La") or "transparency" in image.info:
        clear = image.mode != "P" or "transparency" in image.info
        grey = image.mode in ("L", "La")
        image = image.convert(("LA" if grey else "RGBA") if clear else "RGB")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    grey = image.mode in ("L", "LA")
    plain = image if image.mode == "CMYK" else image.convert("L" if grey else "RGB")
    transform = _transform(bytes(profile), plain.mode)
    if transform is None:
        return image
    # grey has equal channels in sRGB, of which any is its level
    converted = ImageCms.applyTransform(plain, transform) or plain
    converted = converted.getchannel(0) if grey else converted
    if alpha is not None:
        converted.putalpha(alpha)
    converted.info.pop("icc_profile", None)
    return converted


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None if there is nothing to do, or nothing that can be done."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # most pictures: converting sRGB to itself would only round
        if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.buildTransform(source, SRGB, mode, "RGB")
    except UNUSABLE:
        return None


@lru_cache(maxsize=1)
def _of_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(LAB, SRGB, "LAB", "RGB")
