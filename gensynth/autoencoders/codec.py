"""What codecs of latents say where those of tokens say more."""


class LatentCodec:
    """A codec without a codebook."""

    codebook_size: int | None = None

    def fingerprint(self) -> str | None:
        """The mark of a codebook: there is none."""
        return None

    def encoder_fingerprint(self) -> str | None:
        """The mark of what makes tokens: there are none."""
        return None
