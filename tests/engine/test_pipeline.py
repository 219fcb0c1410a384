"""Many images through a model: all of them, in order, on as many cores as help, whatever happens on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from stego_cli.data.views import native_view
from stego_cli.engine import pipeline as pipeline_module
from stego_cli.engine.pipeline import FLIGHT_PIXELS, Pipeline, Seen, Segmented, shares_of_cores
from stego_cli.errors import ImageError, StegoError
from stego_cli.progress import Silence
from stego_cli.segmenter import Scored, Settings


class Stub:
    """A model that answers with the number that the image holds; `slow` images take longer."""

    by_batch = False

    def __init__(self, device: str = "cpu", *, slow: Sequence[int] = (), too_large: Sequence[int] = ()) -> None:
        self.device = torch.device(device)
        self.slow = slow
        self.too_large = too_large
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()

    def scores(self, working: Sequence[Any], settings: Settings) -> list[Scored]:
        numbers = [int(image.flat[0]) for image in working]
        self.batches.append(numbers)
        self.threads.add(torch.get_num_threads())
        if set(numbers) & set(self.slow):
            time.sleep(0.05)
        return [Scored({"cluster": image}) for image in working]

    def answer(self, scored: Scored, working: Any, view: Any, settings: Settings) -> Any:
        number = int(scored.maps["cluster"].flat[0])
        if number in self.too_large:
            raise MemoryError
        return {"cluster": number}


def batches(numbers: Sequence[int], size: int = 4, side: int = 320) -> Iterator[list[Seen[str]]]:
    view = native_view(side, side, side, 8)
    for start in range(0, len(numbers), size):
        part = numbers[start : start + size]
        yield [Seen(f"image {n}", np.full((side, side, 3), n, np.uint8), view) for n in part]


def said(image: Seen[str], found: Segmented | ImageError) -> tuple[str, Any]:
    return image.item, found if isinstance(found, ImageError) else found.answers["cluster"]


def run(model: Stub, numbers: Sequence[int], cores: int = 3, **how: Any) -> list[tuple[str, Any]]:
    return list(Pipeline(model, Settings(), said, Silence(), cores).run(batches(numbers, **how)))


# "meta" is a device that is no CPU and on every machine.
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 11])
def test_every_image_is_answered_once_and_in_order(device: str, cores: int, count: int) -> None:
    model = Stub(device, slow=[0, 5])
    assert run(model, range(count), cores) == [(f"image {n}", n) for n in range(count)]


def test_empty_batches_are_passed_over() -> None:
    given = [[], *batches([1, 2]), []]
    for device in ("cpu", "meta"):
        pipeline = Pipeline(Stub(device), Settings(), said, Silence(), 2)
        assert [item for item, _ in pipeline.run(given)] == ["image 1", "image 2"]


def test_an_accelerator_gets_whole_batches() -> None:
    model = Stub("meta")
    run(model, range(7))
    assert model.batches == [[0, 1, 2, 3], [4, 5, 6]]


def test_a_core_gets_as_many_images_as_go_through_the_network_at_once() -> None:
    large, small = Stub(), Stub()
    run(large, range(4))
    assert sorted(large.batches) == [[0], [1], [2], [3]]
    run(small, range(4), side=32)
    assert small.batches == [[0, 1, 2, 3]]


def test_a_method_that_looks_at_the_batch_gets_it_whole() -> None:
    model = Stub()
    model.by_batch = True
    run(model, range(8))
    assert sorted(model.batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_each_image_is_computed_on_its_share_of_the_cores_and_the_setting_comes_back() -> None:
    before = torch.get_num_threads()
    model = Stub()
    run(model, range(8), cores=4)
    assert model.threads == {1}
    alone = Stub()
    run(alone, [1], cores=4)
    assert alone.threads == {4}
    assert torch.get_num_threads() == before


def test_shares_of_cores() -> None:
    def shares(count: int, cores: int, side: int = 320) -> list[int]:
        return [share for _, share in shares_of_cores((each for each in batches(range(count), 1, side)), cores)]

    assert shares(1, 4) == [4]
    assert shares(2, 4) == [2, 2]
    assert shares(3, 4) == [1, 1, 1]
    assert shares(6, 4) == [1, 1, 1, 1, 2, 2]
    side = int(FLIGHT_PIXELS**0.5) // 8 * 8
    assert shares(4, 4, side) == [4, 4, 4, 4]  # memory for one at a time


def test_what_is_too_large_to_be_answered_is_an_error_of_that_image() -> None:
    for device in ("cpu", "meta"):
        answers = dict(run(Stub(device, too_large=[1]), range(3)))
        assert isinstance(answers.pop("image 1"), ImageError)
        assert answers == {"image 0": 0, "image 2": 2}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_finite_numbers_end_the_run_in_words(
    device: str, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = np.zeros((3, 4, 4), np.float32), np.zeros((3, 4, 4), np.float32)
    broken[1, 2, 0] = bad
    model = Stub(device)
    scores = [Scored({"cluster": whole, "linear": broken})]
    monkeypatch.setattr(model, "scores", lambda working, settings: scores * len(working))
    with pytest.raises(StegoError, match=r"linear probe hold NaN or infinity.*\n\nhint: .*--precision fp32"):
        run(model, [7])


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("stage", ["scores", "answer", "finish"])
def test_an_error_of_any_stage_ends_the_run_and_leaves_no_thread(
    device: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("ours")

    model, finish = Stub(device), said
    if stage == "finish":
        finish = fail
    else:
        monkeypatch.setattr(model, stage, fail)
    with pytest.raises(ZeroDivisionError, match="ours"):
        list(Pipeline(model, Settings(), finish, Silence(), 3).run(batches(range(40))))
    assert threading.active_count() == before


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_who_stops_asking_stops_the_work(device: str) -> None:
    before, taken = threading.active_count(), []

    def counted() -> Iterator[list[Seen[str]]]:
        for batch in batches(range(4000), side=64):
            taken.append(batch)
            yield batch

    results = Pipeline(Stub(device), Settings(), said, Silence(), 2).run(counted())
    assert next(results) == ("image 0", 0)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert len(taken) < 20  # of a thousand


def test_memory_is_bounded_by_the_number_of_images_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most, lock = [0], [0], threading.Lock()
    monkeypatch.setattr(pipeline_module, "PASS_PIXELS", 2 * 64 * 64)

    def counted() -> Iterator[list[Seen[str]]]:
        for batch in batches(range(200), 2, 64):
            with lock:
                alive[0] += len(batch)
                most[0] = max(most[0], alive[0])
            yield batch

    for _ in Pipeline(Stub(), Settings(), said, Silence(), 2).run(counted()):
        with lock:
            alive[0] -= 1
    assert alive[0] == 0
    assert most[0] <= 2 * 2 + 2 * 2  # twice the cores, and a group that was cut and one more batch
