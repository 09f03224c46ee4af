"""Images that were encoded once: Parquet files in the hub's layout, and `encoded.json`.

A row is `latents`, with flips also `mirrored` (the latents of the mirrored image), and `label`, or
`text`, a list of captions. An image is the little-endian bytes of one array; dtype and shape are in
`encoded.json`, which is written last. Floats are kept as float32, so that nothing is lost against
encoding in every step; tokens as uint16, or int32 where the codebook has more than 65,536 codes.
"""

from gensynth.data.encoded.checks import check_encoding, check_rows
from gensynth.data.encoded.images import EncodedImages
from gensynth.data.encoded.record import AGAIN, RECORD, Codec, Encoding, read_encoding, shards
from gensynth.data.encoded.writing import EncodingWriter

__all__ = [
    "AGAIN",
    "RECORD",
    "Codec",
    "EncodedImages",
    "Encoding",
    "EncodingWriter",
    "check_encoding",
    "check_rows",
    "read_encoding",
    "shards",
]
