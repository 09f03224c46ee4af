"""A text encoder of transformers that stays as it is: CLIP, T5, Qwen or another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gensynth.conditions.encoder_files import hash_of_files
from gensynth.errors import CorruptError, InputError, UsageError, first_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RECENT = 2**28  # bytes of encoded texts that are kept
LONGEST = 300  # tokens of a prompt for encoders that set no limit: PixArt-Sigma's
# In a folder of a whole pipeline, as diffusers saves it, the encoder and its words lie here.
ENCODER, TOKENIZER = "text_encoder", "tokenizer"


class Encoded(Protocol):
    """Texts that were encoded before."""

    def get(self, text: str) -> dict[str, Tensor] | None:
        """The tensors [1, ...] of a text, if it is among them."""


class FrozenTextEncoder:
    """Texts -> the last hidden states of a model of transformers, and their summary.

    The summary is the model's own, `pooler_output`, or else the mean over the words. Nothing is
    loaded before it is asked for.

    Args:
        place: a folder or hub id of the encoder with its tokenizer, or of a pipeline that has one.
        length: tokens of a prompt; None: as many as the encoder takes, 300 at most.

    Attributes:
        encoded: what was encoded before, see `gensynth.data.encoded.texts`.
    """

    def __init__(self, place: str, length: int | None = None):
        self.place, self._length = place, length
        self.encoded: Encoded | None = None
        self._recent: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._fingerprint: str | None = None
        self._config: Any = None
        self._tokenizer: Any = None
        self._model: Any = None

    @property
    def config(self) -> Any:
        """transformers' configuration of the text model."""
        if self._config is None:
            from transformers import AutoConfig

            with _explained(self.place):
                found = AutoConfig.from_pretrained(
                    self.place, trust_remote_code=False, **self._below(ENCODER)
                )
            self._config = getattr(found, "text_config", found)  # of a whole CLIP, its half
        return self._config

    @property
    def tokenizer(self) -> Any:
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            with _explained(self.place):
                self._tokenizer = AutoTokenizer.from_pretrained(
                    self.place, trust_remote_code=False, **self._below(TOKENIZER)
                )
            if self._tokenizer.pad_token is None:
                self._tokenizer.pad_token = self._tokenizer.eos_token
            self._tokenizer.padding_side = "right"
        return self._tokenizer

    @property
    def model(self) -> Any:
        """The frozen network, in float32, where it was last used."""
        if self._model is None:
            import torch
            import transformers

            kinds = {"clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel"}
            kinds |= {"t5": "T5EncoderModel", "umt5": "UMT5EncoderModel", "mt5": "MT5EncoderModel"}
            kind = getattr(transformers, kinds.get(self.config.model_type, "AutoModel"))
            with _explained(self.place):
                model, report = kind.from_pretrained(
                    self.place,
                    dtype=torch.float32,
                    use_safetensors=True,  # never a pickle, which could run code
                    trust_remote_code=False,
                    output_loading_info=True,
                    **self._below(ENCODER),
                )
            if report["missing_keys"]:
                some = ", ".join(sorted(report["missing_keys"])[:3])
                raise CorruptError(f"the text encoder {self.place!r} lacks weights: {some}.")
            self._model = model.eval().requires_grad_(False)
        return self._model

    @property
    def length(self) -> int:
        """Tokens of a prompt; longer ones are cut."""
        own = getattr(self.config, "max_position_embeddings", None) or LONGEST
        most = min(own, LONGEST)
        if self._length is not None and self._length > own:
            raise UsageError(
                f"condition.length is {self._length}, but {self.place} takes {own} tokens at most."
            )
        return self._length or most

    @property
    def width(self) -> int:
        """Of the hidden states and of their summary."""
        return int(getattr(self.config, "d_model", None) or self.config.hidden_size)

    def encode(self, texts: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """`encoder_hidden_states` [B, L, D], `encoder_attention_mask` bool [B, L] and
        `pooled_projections` [B, D], in float32.

        Each text is encoded by itself, so that the numbers do not depend on the others, and those
        of the newest texts are kept. Of a text without tokens ("", where the tokenizer marks no
        beginning or end, as Qwen's) the first padding is its one word: attention to nothing at all
        has no value.
        """
        import torch

        each = {text: self._of(text, device) for text in dict.fromkeys(texts)}
        first = next(iter(each.values()))
        return {name: torch.cat([each[text][name].to(device) for text in texts]) for name in first}

    def _of(self, text: str, device: torch.device) -> dict[str, Tensor]:
        """The tensors [1, ...] of one text."""
        found = self.encoded.get(text) if self.encoded is not None else None
        if found is not None:
            return found
        found = self._recent.pop(text, None) or self._encoded_now(text, device)
        self._recent[text] = found  # the newest last
        while len(self._recent) * sum(tensor.nbytes for tensor in found.values()) > RECENT:
            self._recent.popitem(last=False)
        return found

    def _encoded_now(self, text: str, device: torch.device) -> dict[str, Tensor]:
        import torch

        told = self.tokenizer(
            [text],
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        )
        ids, mask = told["input_ids"].to(device), told["attention_mask"].to(device)
        mask[:, 0] = 1
        with torch.no_grad():
            found = self.model.to(device)(input_ids=ids, attention_mask=mask)
        mask = mask.bool()
        states = found.last_hidden_state
        pooled = getattr(found, "pooler_output", None)
        if pooled is None:
            weight = mask[..., None].to(states)
            pooled = (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return {
            "encoder_hidden_states": states,
            "encoder_attention_mask": mask,
            "pooled_projections": pooled,
        }

    def fingerprint(self) -> str:
        """A hash of the files of weights and tokenizer; no network is made of them."""
        if self._fingerprint is None:
            with _explained(self.place):
                self._fingerprint = hash_of_files(
                    self.place, self._below(ENCODER), self._below(TOKENIZER)
                )
        return self._fingerprint

    def _below(self, part: str) -> dict[str, Any]:
        """Where in the place a part lies: at its top, or where a pipeline has it."""
        inside = (Path(self.place) / part).is_dir()
        return {"subfolder": part} if inside else {}


class _explained:
    """Within the block, what transformers raises for a place is said in our words."""

    def __init__(self, place: str):
        self.place = place

    def __enter__(self) -> None:
        from gensynth.system import hub

        if not Path(self.place).exists():
            said = f"there is no text encoder at {self.place!r}"
            if not hub.is_id(self.place):
                raise InputError(f"{said}; set condition.encoder to small, a folder or a hub id.")
            hub.check_copy(self.place, f"{said}, and as a hub id it", "Give a local folder.")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError | ValueError | KeyError | TypeError | ImportError):
            raise InputError(
                f"the text encoder {self.place!r} cannot be read: {first_line(error)}. It has to "
                "be a folder or hub id of transformers with safetensors and a tokenizer."
            ) from error
