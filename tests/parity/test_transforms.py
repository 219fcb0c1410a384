"""The reference's resize, crop and normalisation, of images and labels."""

import json

import numpy as np
import pytest
from PIL import Image

from stego_cli.data.views import apply, apply_to_labels, normalise, paper_view, squash_view


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "stego" / "transforms"


@pytest.fixture(scope="module")
def cases(folder):
    """The parameters, and per case the view that should give its numbers."""
    parameters = json.loads((folder / "resize_normalize.json").read_text())
    for case in parameters["cases"]:
        with Image.open(folder / case["rgb"]) as image:
            make = {"center": paper_view, None: squash_view}[case["crop"]]
            case["view"] = make(image.height, image.width, case["res"])
    return parameters


def test_images_equal_the_reference(folder, cases) -> None:
    assert cases["cases"]
    with np.load(folder / "resize_normalize.npz") as expected:
        for case in cases["cases"]:
            with Image.open(folder / case["rgb"]) as image:
                seen = apply(case["view"], np.array(image.convert("RGB")))
            found = normalise(seen, cases["mean"], cases["std"])[0].numpy()
            assert list(found.shape) == case["shape"]
            np.testing.assert_allclose(found, expected[f"image_{case['key']}"], rtol=0, atol=1e-6, err_msg=case["key"])


def test_labels_equal_the_reference(folder, cases) -> None:
    with np.load(folder / "resize_normalize.npz") as expected:
        for case in cases["cases"]:
            with Image.open(folder / case["label"]) as image:
                found = apply_to_labels(case["view"], np.array(image))  # a palette image gives its indices
            np.testing.assert_array_equal(found[None], expected[f"label_{case['key']}"], err_msg=case["key"])


def test_views_of_all_cases_form_batches_by_resolution(cases) -> None:
    assert {case["view"].size for case in cases["cases"]} == {(case["res"], case["res"]) for case in cases["cases"]}
