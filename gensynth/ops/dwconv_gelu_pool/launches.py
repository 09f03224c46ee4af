"""How the kernels are launched.

A thread should have at least 8 elements of 16 bits, or 4 of 32 bits, for loads of 16 bytes.
"""

from gensynth.ops.launches import Launch


def launch(channels: int, num_warps: int) -> Launch:
    return Launch({"BLOCK_C": channels}, num_warps=num_warps, num_stages=1)


LAUNCHES: dict[str, Launch] = {
    "forward w16 16bit": launch(64, 4),
    "forward w16 32bit": launch(32, 4),
    "forward w8 16bit": launch(64, 2),
    "forward w8 32bit": launch(32, 2),
    "backward w16 16bit": launch(64, 4),
    "backward w16 32bit": launch(32, 4),
    "backward w8 16bit": launch(64, 2),
    "backward w8 32bit": launch(32, 2),
    "gradients w16 16bit": launch(32, 4),
    "gradients w16 32bit": launch(32, 4),
    "gradients w8 16bit": launch(32, 2),
    "gradients w8 32bit": launch(32, 2),
}


def key(kernel: str, columns: int, bytes_of_element: int) -> str:
    """The key of a kernel on strips of `columns` columns."""
    return f"{kernel} w{columns} {8 * bytes_of_element}bit"


def candidates(key: str) -> list[Launch]:
    """Launches worth measuring for `key`: those that give a thread 4 to 16 elements."""
    columns = int(key.split()[1].removeprefix("w"))
    return [
        launch(channels, warps)
        for channels in (16, 32, 64, 128)
        for warps in (1, 2, 4, 8)
        if 4 <= columns * channels / (32 * warps) <= 16
    ]
