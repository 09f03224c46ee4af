import datasets
import pytest
import torch
from torch.utils.data import DataLoader

from gensynth.config import Data
from gensynth.data.training import (
    Schedule,
    StreamedImages,
    TrainingImages,
    mirrored,
    order,
    prepare,
    zoom_draws,
)
from gensynth.errors import CorruptError

DATA = Data(source="parquet", path="-", size=8, channels=1, streaming=True, shuffle_buffer=5)
COUNT = 23  # images of an epoch; no multiple of any batch


def rows_of(files: list[bytes | None]) -> datasets.Dataset:
    images = [None if data is None else {"bytes": data, "path": None} for data in files]
    features = {"image": datasets.Image(decode=False), "label": datasets.Value("int64")}
    columns = {"image": images, "label": list(range(len(files)))}
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


@pytest.fixture(scope="module")
def rows(numbered):
    return rows_of([numbered(number) for number in range(COUNT)])


def numbers(batch) -> list[int]:
    """Which image each one is; the left pixel is the white column of a mirrored one."""
    return batch.images[:, 0, 0, 3].tolist()


# The schedule


@pytest.mark.parametrize(("world", "micro"), [(1, 1), (1, 4), (2, 1), (2, 3), (4, 1), (4, 3)])
def test_processes_and_micro_batches_share_the_batch(world, micro):
    schedules = [Schedule(3, 6, 24, micro, rank, world) for rank in range(world)]
    assert {len(schedule) for schedule in schedules} == {3 * micro}
    steps = zip(*(_chunks(schedule, micro) for schedule in schedules), strict=True)
    for step, parts in enumerate(steps, start=3):
        positions = [
            position
            for micro_batches in zip(*parts, strict=True)
            for part in micro_batches
            for position in part
        ]
        assert positions == list(range(step * 24, step * 24 + 24))


def _chunks(schedule: Schedule, size: int) -> list[list[list[int]]]:
    batches = list(schedule)
    return [batches[first : first + size] for first in range(0, len(batches), size)]


@pytest.mark.parametrize(("world", "micro"), [(1, 1), (2, 3), (4, 2)])
def test_rows_name_the_positions_within_the_step(world, micro):
    for rank in range(world):
        schedule = Schedule(2, 3, 24, micro, rank, world)
        for number, positions in enumerate(schedule):
            assert positions == list(range(48, 72))[schedule.rows(number)]


# Images by position


def test_every_epoch_visits_every_image_once():
    for epoch in range(3):
        assert sorted(order(7, epoch, COUNT).tolist()) == list(range(COUNT))


def test_orders_differ_between_epochs_and_seeds():
    orders = {tuple(order(seed, epoch, COUNT).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_never_changes():
    # A run started with an earlier version must resume in the same order.
    assert order(0, 0, 8).tolist() == [5, 1, 7, 0, 3, 6, 2, 4]


def test_positions_follow_the_order_across_epochs(rows):
    batch = TrainingImages(rows, DATA, 7).__getitems__(list(range(2 * COUNT)))
    expected = order(7, 0, COUNT).tolist() + order(7, 1, COUNT).tolist()
    assert numbers(batch) == expected
    assert batch.labels.tolist() == expected
    assert batch.labels.dtype == torch.int64
    assert batch.images.shape == (2 * COUNT, 1, 8, 8)
    assert batch.images.dtype == torch.uint8
    assert batch.unreadable == []


@pytest.mark.parametrize("size", [1, 5, 23])
def test_the_split_into_batches_does_not_matter(rows, size):
    flipping = DATA.model_copy(update={"flip": True})
    images = TrainingImages(rows, flipping, 7)
    whole = images.__getitems__(list(range(46)))
    parts = [images.__getitems__(list(range(n, min(n + size, 46)))) for n in range(0, 46, size)]
    assert torch.equal(whole.images, torch.cat([part.images for part in parts]))
    assert torch.equal(whole.labels, torch.cat([part.labels for part in parts]))


def test_a_flip_is_a_function_of_seed_and_position(rows):
    flipping = DATA.model_copy(update={"flip": True})
    batch = TrainingImages(rows, flipping, 7).__getitems__(list(range(40)))
    flipped = (batch.images[:, 0, 0, 0] == 255).tolist()
    assert flipped == [mirrored(7, position) for position in range(40)]
    assert flipped != [mirrored(8, position) for position in range(40)]
    plain = TrainingImages(rows, DATA, 7).__getitems__(list(range(40)))
    assert not (plain.images[:, 0, 0, 0] == 255).any()


def test_the_coin_is_fair():
    heads = sum(mirrored(0, position) for position in range(4000))
    assert 1850 < heads < 2150


@pytest.mark.parametrize("damaged", [b"no image", b"", None], ids=["text", "empty", "missing"])
def test_an_unreadable_image_is_replaced_by_the_next_and_reported(numbered, damaged):
    files = [numbered(number) for number in range(COUNT)]
    sequence = order(7, 0, COUNT).tolist()
    files[sequence[3]] = files[sequence[4]] = files[sequence[-1]] = damaged
    batch = TrainingImages(rows_of(files), DATA, 7).__getitems__(list(range(COUNT)))
    expected = list(sequence)
    expected[3] = expected[4] = sequence[5]
    expected[-1] = sequence[0]
    assert numbers(batch) == expected
    assert batch.labels.tolist() == expected
    assert batch.unreadable == [sequence[3], sequence[4], sequence[4], sequence[-1]]


def test_data_without_one_good_image_is_refused():
    with pytest.raises(CorruptError, match="not one image"):
        TrainingImages(rows_of([b"no", b"image"]), DATA, 0).__getitems__([0])


def test_labels_are_zero_without_a_label_column(rows):
    batch = TrainingImages(rows.select_columns(["image"]), DATA, 0).__getitems__([0, 1])
    assert batch.labels.tolist() == [0, 0]


def test_workers_change_nothing(rows):
    def loaded(workers):
        images = TrainingImages(rows, DATA.model_copy(update={"flip": True}), 7)
        schedule = Schedule(1, 5, 12, 2, 0, 1)
        return list(
            DataLoader(images, batch_sampler=schedule, collate_fn=lambda b: b, num_workers=workers)
        )

    alone, helped = loaded(0), loaded(2)
    assert len(alone) == len(helped) == 8
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


# Zoom

ZOOMED = DATA.model_copy(update={"zoom": [1.0, 2.0], "flip": True})


def test_without_zoom_there_are_no_crops(rows):
    assert TrainingImages(rows, DATA, 7).__getitems__([0, 1]).crops is None


def test_crops_are_in_positions_of_the_latents(rows):
    positions = list(range(40))
    pixels = TrainingImages(rows, ZOOMED, 7).__getitems__(positions).crops
    latents = TrainingImages(rows, ZOOMED, 7, patch=4).__getitems__(positions).crops
    assert pixels.shape == (40, 4)
    assert pixels.dtype == latents.dtype == torch.float32
    assert torch.equal(pixels / 4, latents)
    height, width, top, left = pixels.unbind(1)
    assert ((height >= 8) & (height <= 16) & (height == width)).all()
    assert ((top >= 0) & (top <= height - 8) & (left >= 0) & (left <= width - 8)).all()
    assert len(set(height.tolist())) > 5


def test_a_zoom_is_a_function_of_seed_and_position(rows):
    one = TrainingImages(rows, ZOOMED, 7).__getitems__(list(range(46)))
    images = TrainingImages(rows, ZOOMED, 7)
    parts = [images.__getitems__([position]) for position in reversed(range(46))][::-1]
    assert torch.equal(one.images, torch.cat([part.images for part in parts]))
    assert torch.equal(one.crops, torch.cat([part.crops for part in parts]))
    other = TrainingImages(rows, ZOOMED, 8).__getitems__(list(range(46)))
    assert not torch.equal(one.crops, other.crops)


def test_the_zoom_never_changes():
    # A run started with an earlier version must resume with the same crops.
    expected = (0.5934912613278729, 0.775397392479451, 0.4459419565275926)
    assert zoom_draws(0, 0) == pytest.approx(expected)


def test_draws_of_the_zoom_are_even():
    draws = torch.tensor([zoom_draws(0, position) for position in range(2000)])
    assert (draws.mean(0) - 0.5).abs().max() < 0.03
    assert (draws.std(0) - 12**-0.5).abs().max() < 0.02


def test_a_crop_is_of_the_image_before_it_is_mirrored(rows):
    positions = list(range(40))
    flipped = TrainingImages(rows, ZOOMED, 7).__getitems__(positions)
    plain_data = ZOOMED.model_copy(update={"flip": False})
    plain = TrainingImages(rows, plain_data, 7).__getitems__(positions)
    assert torch.equal(flipped.crops, plain.crops)
    for position in positions:
        shown = flipped.images[position]
        unmirrored = shown.flip(-1) if mirrored(7, position) else shown
        assert torch.equal(unmirrored, plain.images[position])


def test_a_zoom_of_one_is_the_picture_itself(rows):
    whole = DATA.model_copy(update={"zoom": [1.0, 1.0]})
    batch = TrainingImages(rows, whole, 7).__getitems__(list(range(COUNT)))
    pictures = [prepare(rows[int(index)], DATA) for index in order(7, 0, COUNT)]
    assert torch.equal(batch.images, torch.stack(pictures))
    assert batch.crops.tolist() == [[8, 8, 0, 0]] * COUNT


def test_workers_change_no_crop(rows):
    def loaded(workers):
        images = TrainingImages(rows, ZOOMED, 7, patch=2)
        schedule = Schedule(1, 5, 12, 2, 0, 1)
        loader = DataLoader(
            images, batch_sampler=schedule, collate_fn=lambda b: b, num_workers=workers
        )
        return [batch.crops for batch in loader]

    assert torch.equal(torch.cat(loaded(0)), torch.cat(loaded(2)))


def test_an_unreadable_image_with_zoom_is_replaced(numbered):
    sequence = order(7, 0, 4).tolist()
    files = [numbered(number) for number in range(4)]
    files[sequence[1]] = b"no image"
    batch = TrainingImages(rows_of(files), ZOOMED, 7).__getitems__([0, 1, 2, 3])
    assert batch.unreadable == [sequence[1]]
    assert batch.crops.shape == (4, 4)


# Streams


@pytest.fixture(scope="module")
def stream(rows):
    """`stream(schedule, position, cursor)`: the batches of a stream of three shards."""

    def batches(schedule, position=0, cursor=(0, 0), workers=0, **changes):
        data = DATA.model_copy(update=changes)
        source = rows.to_iterable_dataset(num_shards=3)
        images = StreamedImages(source, data, 3, 100, schedule, position, cursor)
        return list(DataLoader(images, batch_size=None, num_workers=workers))

    return batches


STEPS, BATCH = 14, 5  # 70 images: three epochs and a bit


@pytest.fixture(scope="module")
def whole_stream(stream):
    return stream(Schedule(0, STEPS, BATCH))


def test_a_stream_visits_every_image_once_an_epoch(whole_stream):
    sequence = [number for batch in whole_stream for number in numbers(batch)]
    epochs = [sequence[n : n + COUNT] for n in range(0, 3 * COUNT, COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != sorted(epochs[0])


@pytest.mark.parametrize("step", [1, 4, 5, 9, 10, 13])
@pytest.mark.parametrize("world", [1, 5])
def test_a_stream_resumes_exactly(stream, whole_stream, step, world):
    # 23 images and batches of 5: steps 5, 10 and 14 are the first that begin in a later epoch.
    rank = world - 1
    straight = stream(Schedule(0, STEPS, BATCH, 1, rank, world)) if world > 1 else whole_stream
    position, cursor = step * BATCH, straight[step].cursor
    resumed = stream(Schedule(step, STEPS, BATCH, 1, rank, world), position, tuple(cursor))
    assert [numbers(b) for b in resumed] == [numbers(b) for b in straight[step:]]
    assert [tuple(b.cursor) for b in resumed] == [tuple(b.cursor) for b in straight[step:]]


def test_cursors_count_epochs_and_offsets(whole_stream):
    expected = [divmod(step * BATCH, COUNT) for step in range(STEPS)]
    assert [tuple(batch.cursor) for batch in whole_stream] == expected


def test_two_processes_read_the_stream_of_one(stream):
    together = stream(Schedule(0, 6, 8))
    apart = [stream(Schedule(0, 6, 8, 1, rank, 2)) for rank in range(2)]
    for batch, first, second in zip(together, *apart, strict=True):
        assert numbers(batch) == numbers(first) + numbers(second)
        assert tuple(batch.cursor) == tuple(first.cursor) == tuple(second.cursor)


def test_micro_batches_read_the_stream_of_whole_batches(stream, whole_stream):
    micro = stream(Schedule(0, STEPS, BATCH, 5))
    sequence = [number for batch in whole_stream for number in numbers(batch)]
    assert [number for batch in micro for number in numbers(batch)] == sequence
    for step in range(STEPS):
        cursors = {tuple(batch.cursor) for batch in micro[step * 5 : step * 5 + 5]}
        assert cursors == {divmod(step * BATCH, COUNT)}


def test_flips_in_a_stream_follow_the_position(stream):
    batches = stream(Schedule(0, 8, BATCH), flip=True)
    flipped = [pixel == 255 for batch in batches for pixel in batch.images[:, 0, 0, 0].tolist()]
    assert flipped == [mirrored(3, position) for position in range(40)]


def test_crops_in_a_stream_follow_the_position(rows):
    source = rows.to_iterable_dataset(num_shards=3)
    whole = list(StreamedImages(source, ZOOMED, 3, 100, Schedule(0, 8, 6), patch=2))
    later = list(
        StreamedImages(source, ZOOMED, 3, 100, Schedule(5, 8, 6), 30, whole[5].cursor, patch=2)
    )
    assert [batch.crops.tolist() for batch in later] == [b.crops.tolist() for b in whole[5:]]
    sides = torch.cat([batch.crops for batch in whole])[:, 0] * 2
    zooms = [1 + zoom_draws(3, position)[0] for position in range(48)]
    assert sides.tolist() == [round(8 * zoom) for zoom in zooms]


@pytest.mark.parametrize("damaged", [b"no image", b"", None], ids=["text", "empty", "missing"])
def test_an_unreadable_image_in_a_stream_repeats_the_one_before(numbered, damaged):
    files = [numbered(number) for number in range(6)]
    files[2] = damaged
    ordered = DATA.model_copy(update={"shuffle_buffer": 1})
    images = StreamedImages(
        rows_of(files).to_iterable_dataset(), ordered, 3, 100, Schedule(0, 2, 3)
    )
    first, second = images
    assert numbers(first) + numbers(second) == [0, 1, 1, 3, 4, 5]
    assert (first.unreadable, second.unreadable) == ([2], [])


def test_an_unreadable_image_at_the_very_start_of_a_stream(numbered):
    files = [b"no image", numbered(1), numbered(2), numbered(3)]
    ordered = DATA.model_copy(update={"shuffle_buffer": 1})
    images = StreamedImages(
        rows_of(files).to_iterable_dataset(), ordered, 3, 100, Schedule(0, 1, 4)
    )
    (batch,) = images
    assert numbers(batch)[1:] == [1, 2, 3]
    assert batch.unreadable == [0]
