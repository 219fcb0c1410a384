"""Inputs are sorted into done, to do and unreadable; batches have one size and a bounded number of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stego_cli.data.inputs import InputImage
from stego_cli.data.views import native_view
from stego_cli.engine import plan as planning
from stego_cli.engine.plan import Plan, input_key, make_plan, source_of


def picture(path: Path, height: int, width: int) -> InputImage:
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return InputImage(path, Path(path.name))


def plan(images: list[InputImage], done: frozenset[str] = frozenset()) -> Plan:
    return make_plan(
        images,
        {image.path: image.relative.stem for image in images},
        lambda height, width: native_view(height, width, 16, 8),
        lambda key, source: key in done,
    )


def test_batches_have_one_working_size_each(tmp_path: Path) -> None:
    images = [picture(tmp_path / f"{i}.png", 32, 32 if i % 3 else 64) for i in range(10)]
    batches = list(plan(images).batches(4))
    assert sorted(len(batch) for batch in batches) == [2, 4, 4]
    assert all(len({job.view.size for job in batch}) == 1 for batch in batches)
    assert sorted(job.name for batch in batches for job in batch) == [str(i) for i in range(10)]


def test_large_photographs_fill_a_batch_by_their_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "BATCH_PIXELS", 2500)
    images = [picture(tmp_path / f"{i}.png", 32, 32) for i in range(5)]
    assert [len(batch) for batch in plan(images).batches(8)] == [2, 2, 1]


def test_done_and_unreadable_are_set_apart(tmp_path: Path) -> None:
    good, done = picture(tmp_path / "a.png", 16, 16), picture(tmp_path / "b.png", 16, 16)
    (tmp_path / "c.png").write_text("not an image")
    bad, gone = InputImage(tmp_path / "c.png", Path("c.png")), InputImage(tmp_path / "d.png", Path("d.png"))
    sorted_out = plan([good, done, bad, gone], frozenset({input_key(done.path)}))
    assert [job.name for job in sorted_out.jobs] == ["a"]
    assert sorted_out.done == (input_key(done.path),)
    assert [(image, name) for image, name, _ in sorted_out.failed] == [(bad, "c"), (gone, "d")]


def test_a_changed_file_has_another_source(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", 16, 16)
    before = source_of(image.path)
    picture(tmp_path / "a.png", 32, 16)
    assert source_of(image.path) != before
