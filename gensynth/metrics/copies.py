"""Which samples repeat a training picture."""

from torch import Tensor

from gensynth.errors import UsageError
from gensynth.metrics.arrays import Array, as_pair
from gensynth.metrics.manifold import nearest

SHARE = 1 / 3  # of the distance to the second nearest training picture


def copied(training: Array, samples: Array) -> Tensor:
    """Which samples are copies, bool [N]: the nearest training picture is less than a third as far
    away as the second nearest.

    The criterion of arXiv 2310.02664 and of Yoon et al. (Diffusion Probabilistic Models Generalize
    when They Fail to Memorize, 2023), who take pixels. It needs no threshold of its own for each
    kind of picture: how far pictures lie apart there is what it compares with. Of training pictures
    that are there twice it sees no copies: both are as far away.

    Args:
        training, samples: pixels or features [M, D] and [N, D], M at least 2.

    Raises:
        UsageError: other shapes, NaN or infinite values, or fewer than two training pictures.
    """
    training, samples = as_pair(training, samples)
    if len(training) < 2:
        raise UsageError("copies are looked for among at least 2 training pictures.")
    first, second = nearest(samples, training, 2)[0].unbind(1)  # squared
    return first < SHARE**2 * second
