"""The sections `data:` and `autoencoder:`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gensynth.config.section import (
    NotNegative,
    Place,
    Positive,
    Section,
    Share,
    Zoom,
    no_truth_value,
)

BUNDLED = ("fashion_mnist", "emoji")  # sources that come with the package


class Data(Section):
    # fashion_mnist and emoji come with the package; encoded: a folder that `gensynth encode` made
    source: Literal[
        "fashion_mnist", "emoji", "parquet", "imagefolder", "webdataset", "hub", "encoded"
    ] = "fashion_mnist"
    path: Place | None = None  # files, folder, glob or hub id; none for what comes with the package
    split: str = "train"  # of an imagefolder in train/ and val/ also: all
    size: Annotated[int, Field(ge=1, le=2**14)] = (
        32  # pixels, of the square the model is trained on
    )
    channels: Annotated[Literal[1, 3], BeforeValidator(no_truth_value)] = 3
    fit: Literal["crop", "pad"] = "crop"  # ADM's centre crop, or a black border around the image
    # [low, high]: instead of the centre crop a random square of the image, resized to a short side
    # of u * size pixels, u drawn from there. For model.size_conditioning, or by itself.
    zoom: Annotated[list[Zoom], Field(min_length=2, max_length=2)] | None = None
    flip: bool = False  # mirror every other image at random
    exif_rotate: bool = True  # turn photographs upright; ADM does not
    image_column: str | None = None  # none: the first of image, img, jpg, png, webp
    label_column: str | None = None  # none: the first of label, labels, cls, class
    # Of captions, for condition.kind: text. none: the first of text, caption, captions, prompt
    text_column: str | None = None
    # A folder of captions that `gensynth encode --text` made. none: that of encoded images, if any
    texts: Place | None = None
    classes: list[str] | None = None  # names by number, for sources that do not carry them
    # imagefolder: the level of folders that are the classes, 0 for none; none: the first, if all
    # pictures lie equally deep.
    class_level: NotNegative | None = None
    streaming: bool = False
    shuffle_buffer: Positive = 10_000  # images, when streaming
    workers: NotNegative = 2  # decoding processes for each training process
    timeout: Positive = 120  # seconds without a batch of theirs after which the run ends
    max_corrupt: Share = 0.01  # share of unreadable images above which the run stops

    @model_validator(mode="after")
    def path_fits_source(self) -> Self:
        if self.source in BUNDLED and self.path:
            raise ValueError(f"path is for the other sources; {self.source} comes with the package")
        if self.source not in BUNDLED and not self.path:
            raise ValueError(f"source {self.source} needs a path")
        return self

    @model_validator(mode="after")
    def level_fits_source(self) -> Self:
        if self.class_level is not None and self.source != "imagefolder":
            raise ValueError("class_level is of folders; it needs source: imagefolder")
        return self

    @model_validator(mode="after")
    def zoom_fits(self) -> Self:
        if self.zoom and self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom must be [low, high] with low <= high, got {self.zoom}")
        if self.zoom and self.fit != "crop":
            raise ValueError("zoom cuts squares out of the images; it needs fit: crop")
        return self

    @model_validator(mode="after")
    def encoded_fits(self) -> Self:
        if self.source == "encoded" and self.streaming:
            raise ValueError("encoded images are read by position; set streaming: false")
        if self.source == "encoded" and self.zoom:
            raise ValueError("zoom draws new crops in every epoch; it cannot be of encoded images")
        return self


KIND_DEFAULTS: dict[str, dict[str, int]] = {
    "kl": {"patch": 8, "latent_channels": 4},
    "vq": {"patch": 16, "codebook_size": 16384},
}


class Autoencoder(Section):
    # none: the pixels; kl: latents of a pretrained autoencoder; vq: tokens of a codebook
    kind: Literal["none", "kl", "vq"] = "none"
    # Side in pixels of a latent position. none: of the square folded into channels, without loss;
    # kl and vq: the codec's down-scaling, 8 and 16 unless given.
    patch: Annotated[Literal[1, 2, 4, 8, 16, 32, 64], BeforeValidator(no_truth_value)] = 1
    # Folder or hub id. kl: a diffusers autoencoder, or taef2, which comes with gensynth; vq: a
    # tokenizer, or the run that trained it.
    path: Place | None = None
    # The codec's, given so that a configuration is checked without it: channels of kl (4 unless
    # given), codes of vq (16384 unless given).
    latent_channels: Positive | None = None
    codebook_size: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def defaults_of_kind(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("kind") == "pixels":  # the old word
            given = {**given, "kind": "none"}
        return {**KIND_DEFAULTS.get(str(given.get("kind")), {}), **given}

    @model_validator(mode="after")
    def keys_fit_kind(self) -> Self:
        own = {"none": (), "kl": ("path", "latent_channels"), "vq": ("path", "codebook_size")}
        example = {"kl": "stabilityai/sd-vae-ft-ema", "vq": "runs/fashion_mnist/vq_nano"}
        for key in ("path", "latent_channels", "codebook_size"):
            value = getattr(self, key)
            if value is not None and key not in own[self.kind]:
                kinds = " and ".join(kind for kind in own if key in own[kind])
                raise ValueError(f"{key} is for kind {kinds}")
            if value is None and key in own[self.kind]:
                wanted = f", for instance {example[self.kind]}" if key == "path" else ""
                raise ValueError(f"kind {self.kind} needs a {key}{wanted}")
        return self

    @property
    def gives(self) -> str:
        """What a model gets to see: "latents" or "tokens"."""
        return "tokens" if self.kind == "vq" else "latents"

    def channels(self, image_channels: int) -> int:
        """Channels of the latents of an image with so many."""
        return self.latent_channels or image_channels * self.patch**2
