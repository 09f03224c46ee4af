"""The sections `data:` and `autoencoder:`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gensynth.config.section import (
    NotNegative,
    Positive,
    Section,
    Share,
    Zoom,
    no_truth_value,
)


class Data(Section):
    source: Literal["fashion_mnist", "parquet", "imagefolder", "webdataset", "hub"] = (
        "fashion_mnist"
    )
    path: str | None = None  # files, folder, glob or hub id; none for the bundled set
    split: str = "train"
    size: Positive = 32  # pixels, of the square the model is trained on
    channels: Annotated[Literal[1, 3], BeforeValidator(no_truth_value)] = 3
    fit: Literal["crop", "pad"] = "crop"  # ADM's centre crop, or a black border around the image
    # [low, high]: instead of the centre crop a random square of the image, resized to a short side
    # of u * size pixels, u drawn from there. For model.size_conditioning, or by itself.
    zoom: Annotated[list[Zoom], Field(min_length=2, max_length=2)] | None = None
    flip: bool = False  # mirror every other image at random
    exif_rotate: bool = True  # turn photographs upright; ADM does not
    image_column: str | None = None  # none: the first of image, img, jpg, png, webp
    label_column: str | None = None  # none: the first of label, labels, cls, class
    classes: list[str] | None = None  # names, for sources that do not carry them
    streaming: bool = False
    shuffle_buffer: Positive = 10_000  # images, when streaming
    workers: NotNegative = 2  # decoding processes for each training process
    max_corrupt: Share = 0.01  # share of unreadable images above which the run stops

    @model_validator(mode="after")
    def path_fits_source(self) -> Self:
        if self.source == "fashion_mnist" and self.path:
            raise ValueError("path is for the other sources; fashion_mnist comes with the package")
        if self.source != "fashion_mnist" and not self.path:
            raise ValueError(f"source {self.source} needs a path")
        return self

    @model_validator(mode="after")
    def zoom_fits(self) -> Self:
        if self.zoom and self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom must be [low, high] with low <= high, got {self.zoom}")
        if self.zoom and self.fit != "crop":
            raise ValueError("zoom cuts squares out of the images; it needs fit: crop")
        return self


class Autoencoder(Section):
    kind: Literal["pixels", "kl"] = "pixels"
    # Side in pixels of a latent position. pixels: of the square folded into channels, without loss;
    # kl: the VAE's down-scaling, 8 unless given.
    patch: Annotated[Literal[1, 2, 4, 8], BeforeValidator(no_truth_value)] = 1
    path: str | None = None  # kl: folder or hub id of a diffusers AutoencoderKL
    # kl: the VAE's channels, 4 unless given, so that a configuration is checked without the VAE.
    latent_channels: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def defaults_of_kl(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("kind") == "kl":
            return {"patch": 8, "latent_channels": 4, **given}
        return given

    @model_validator(mode="after")
    def keys_fit_kind(self) -> Self:
        if self.kind == "kl" and (not self.path or self.latent_channels is None):
            raise ValueError("kind kl needs a path, for instance stabilityai/sd-vae-ft-ema")
        if self.kind == "pixels" and (self.path or self.latent_channels):
            raise ValueError("path and latent_channels are for kind kl")
        return self

    def channels(self, image_channels: int) -> int:
        """Channels of the latents of an image with so many."""
        return self.latent_channels or image_channels * self.patch**2
