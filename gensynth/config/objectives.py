"""The sections `objective:` and `regularizers:`."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gensynth.config.section import NotNegative, Place, Positive, Section, Share


class Flow(Section):
    """Flow matching on a path from noise to data (SiT, arXiv 2401.08740)."""

    works_on: ClassVar[str] = "latents"
    draws: ClassVar[bool] = True
    learns_variance: ClassVar[bool] = False
    name: Literal["flow"] = "flow"
    path: Literal["linear", "gvp", "vp"] = "linear"  # rectified flow, or variance preserving
    prediction: Literal["velocity", "noise", "score", "x"] = "velocity"
    weighting: Literal["none", "velocity", "likelihood"] = "none"  # of the error, by time
    # Distance from the ends of time; none: 0 for velocity, 0.001, or 0.00001 on the vp path.
    train_eps: Annotated[float, Field(ge=0, lt=0.5)] | None = None
    time: Literal["uniform", "logit-normal"] = "uniform"
    logit_mean: float = 0.0  # logit-normal: time = sigmoid(mean + std * normal)
    logit_std: Annotated[float, Field(gt=0)] = 1.0
    time_scale: Annotated[float, Field(gt=0)] = 1.0  # the model sees time in [0, time_scale]
    label_dropout: Share = 0.1

    @property
    def predicts(self) -> str:
        """What a pipeline of the model starts from, a prediction of `samplers.registry`."""
        return self.prediction

    @property
    def scheduler_keywords(self) -> dict[str, str]:
        """What a scheduler has to know of the model, for `create_scheduler`."""
        return {"path": self.path}

    @property
    def pipeline_keywords(self) -> dict[str, Any]:
        """What a pipeline has to know of the model's input and output."""
        return {"time_scale": self.time_scale, "path": self.path}

    @model_validator(mode="after")
    def weighting_fits(self) -> Self:
        if self.weighting != "none" and self.prediction == "velocity":
            raise ValueError(
                f"weighting {self.weighting} is for prediction noise, score or x; "
                "velocity is learned with weighting none"
            )
        if self.weighting != "none" and self.train_eps == 0:
            raise ValueError("a weighting is infinite at the ends of time; set train_eps above 0")
        return self


class DDPM(Section):
    """iDDPM: noise prediction, learned range variance, hybrid loss (arXiv 2102.09672, as DiT)."""

    works_on: ClassVar[str] = "latents"
    draws: ClassVar[bool] = True
    learns_variance: ClassVar[bool] = True
    predicts: ClassVar[str] = "epsilon"  # whatever `prediction` says is converted
    name: Literal["ddpm"] = "ddpm"
    betas: Literal["linear", "cosine"] = "linear"  # of the 1000 timesteps
    prediction: Literal["epsilon", "x", "v"] = "epsilon"  # noise, image, or arXiv 2202.00512's v
    # Squared error + bound of the variance, or the bound alone; "rescaled" by the chain's length.
    loss: Literal["mse", "rescaled_mse", "kl", "rescaled_kl"] = "mse"
    min_snr: Annotated[float, Field(gt=0)] | None = None  # gamma of arXiv 2303.09556; MDT's is 5
    label_dropout: Share = 0.1

    @property
    def scheduler_keywords(self) -> dict[str, str]:
        return {"betas": self.betas}

    @property
    def pipeline_keywords(self) -> dict[str, Any]:
        return {"ddpm_prediction": self.prediction}

    @model_validator(mode="after")
    def weight_fits_loss(self) -> Self:
        if self.min_snr is not None and self.loss in ("kl", "rescaled_kl"):
            raise ValueError(f"min_snr weighs the squared error, which loss {self.loss} has not")
        return self


class Masked(Section):
    """Masked tokens (MaskGIT, arXiv 2202.04200, with Halton-MaskGIT's defaults)."""

    works_on: ClassVar[str] = "tokens"
    draws: ClassVar[bool] = True
    scheduler_keywords: ClassVar[dict[str, str]] = {}
    pipeline_keywords: ClassVar[dict[str, Any]] = {}
    learns_variance: ClassVar[bool] = False
    predicts: ClassVar[str] = "tokens"
    name: Literal["masked"] = "masked"
    # Share masked at progress r, uniform in [0, 1].
    schedule: Literal["arccos", "cosine", "linear", "square", "cubic", "root"] = "arccos"
    loss_on: Literal["all", "masked"] = "all"  # tokens the loss is taken over
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_dropout: Share = 0.1


Weight = Annotated[float, Field(ge=0)]


class Reconstruction(Section):
    """A tokenizer gives images back through its codebook (VQGAN, arXiv 2012.09841; LlamaGen)."""

    works_on: ClassVar[str] = ""  # on what the tokenizer does: pixels or latents
    draws: ClassVar[bool] = False
    scheduler_keywords: ClassVar[dict[str, str]] = {}
    pipeline_keywords: ClassVar[dict[str, Any]] = {}
    learns_variance: ClassVar[bool] = False
    predicts: ClassVar[str] = ""  # nothing is sampled
    name: Literal["reconstruction"] = "reconstruction"
    pixel: Literal["l1", "l2"] = "l1"  # error of the pixels in [-1, 1], or of the latents
    codebook: Weight = 1.0
    commitment: Weight = 0.25  # holds the features near their codes
    entropy: Weight = 0.0  # LlamaGen's; for sure features and used codes
    perceptual: Weight = 0.0  # distance in features of EfficientNet-Lite0, which comes along
    adversarial: Weight = 0.0  # of a patch discriminator that is trained beside
    adversarial_start: NotNegative = 0  # step from which it counts
    # Steps between replacing the codes that were not used since by features of the batch; 0: never.
    revive_every: NotNegative = 100
    label_dropout: ClassVar[float] = 0.0


class Distill(Section):
    """A model whose attention was made linear learns from the one it was made of.

    The loss is data * (that of the teacher's own training) + output * (squared error of the two
    outputs) + attention * (mean squared error of the outputs of their attentions), as LinFusion
    (arXiv 2409.02097) and CLEAR (arXiv 2412.16112) are trained.
    """

    works_on: ClassVar[str] = "latents"
    draws: ClassVar[bool] = True
    learns_variance: ClassVar[bool] = False
    predicts: ClassVar[str] = ""  # what the teacher does
    scheduler_keywords: ClassVar[dict[str, str]] = {}
    pipeline_keywords: ClassVar[dict[str, Any]] = {}
    name: Literal["distill"] = "distill"
    teacher: Place  # folder, run or hub id, of a DiT of ours or a pipeline of diffusers
    method: Literal["linfusion", "clear"] = "linfusion"
    options: dict[str, Any] = Field(default_factory=dict)  # of `gensynth.linearize`: window, ...
    weights: Place | None = None  # to begin with, as of `gensynth.linearize`; none: the teacher's
    data: Weight = 1.0
    output: Weight = 0.5
    attention: Weight = 0.5
    # Attentions whose outputs are compared, by patterns of their names and, of all that are
    # replaced, every so many. CLEAR: ["single_transformer_blocks"] and 4.
    attentions: Annotated[list[str], Field(min_length=1)] = Field(default_factory=lambda: ["*"])
    every: Positive = 1
    time: Literal["uniform", "logit-normal"] = "uniform"  # of flows, as in objective flow
    logit_mean: float = 0.0
    logit_std: Annotated[float, Field(gt=0)] = 1.0
    label_dropout: Share = 0.1  # published: 0, but guided drawing asks without words too
    guidance: Annotated[float, Field(ge=0)] = 3.5  # that networks are told that take it: FLUX.1-dev

    @model_validator(mode="after")
    def something_is_learnt(self) -> Self:
        if self.data == self.output == self.attention == 0:
            raise ValueError("data, output and attention are 0, so that there is nothing to learn")
        return self


Objective = Flow | DDPM | Masked | Reconstruction | Distill


class Dispersive(Section):
    """Spreads the hidden states of different images (Dispersive Loss, arXiv 2506.09027)."""

    name: Literal["dispersive"] = "dispersive"
    block: str  # a hidden state by its module's name, such as blocks.6 or levels.1.0
    weight: Annotated[float, Field(gt=0)] = 0.5
    tau: Annotated[float, Field(gt=0)] = 0.5
    # Consecutive images of the global batch that are compared with each other. The paper's is the
    # batch of one device; here the group is fixed, so that the result is not about devices.
    group_size: Annotated[int, Field(ge=2)] = 16


class LayerSync(Section):
    """Pulls the hidden states of earlier blocks towards later ones' (arXiv 2510.12581)."""

    name: Literal["layersync"] = "layersync"
    # [earlier, later] of each pair; their terms are added up.
    pairs: Annotated[
        list[Annotated[list[str], Field(min_length=2, max_length=2)]], Field(min_length=1)
    ]
    weight: Annotated[float, Field(gt=0)] = 0.2


class Repa(Section):
    """Aligns a hidden state with a frozen encoder of the clean images (arXiv 2410.06940)."""

    name: Literal["repa"] = "repa"
    block: str
    weight: Annotated[float, Field(gt=0)] = 0.5
    encoder: Literal["lite0", "dinov2"] = "lite0"  # the first comes with the package
    path: Place | None = None  # of dinov2: hub id or folder
    stage: Literal["s40", "s112", "s320"] = "s112"  # of lite0: channels of its features
    # Side in pixels at which the encoder sees the images; none: 64 for lite0, and for dinov2 224
    # for every whole 256 pixels of data.size, at least 224.
    image_size: Positive | None = None
    projector_dim: Positive = 2048

    @model_validator(mode="after")
    def path_fits_encoder(self) -> Self:
        if self.encoder == "dinov2" and not self.path:
            raise ValueError("encoder dinov2 needs a path, such as facebook/dinov2-base")
        if self.encoder == "lite0" and self.path:
            raise ValueError("path is for encoder dinov2; lite0 comes with the package")
        if self.encoder == "dinov2" and self.stage != "s112":
            raise ValueError("stage is for encoder lite0")
        return self
