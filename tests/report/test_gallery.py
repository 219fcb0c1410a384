from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from stego_cli.errors import OutputError
from stego_cli.report.gallery import link, link_to_input, percent, write_gallery

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'&.jpg"


class Page(HTMLParser):
    """Collects what a test asks about: tags with their attributes, the text, the scripts."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._inside: dict[str, str | None] | None = None
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._inside = dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self.text += data
        else:
            self.scripts.append((self._inside, data))

    @property
    def data(self) -> dict[str, Any]:
        (content,) = [text for attributes, text in self.scripts if attributes.get("type") == "application/json"]
        loaded: dict[str, Any] = json.loads(content)
        return loaded


def image(name: str, source: str, **changes: Any) -> dict[str, Any]:
    return {
        "input": source,
        "name": name,
        "status": "done",
        "height": 30,
        "width": 40,
        "notes": [],
        "outputs": {"cluster": {"labels": f"labels/{name}.png", "overlay": f"overlays/{name}.jpg", "probs": None}},
        "shares": {"cluster": {"sky": 0.25, "road": 0.75}},
        "seconds": 0.1,
        "error": None,
    } | changes


def failed(source: str, error: str) -> dict[str, Any]:
    return image(source, source, status="failed", outputs={}, shares={}, height=None, width=None, error=error)


def predictions(*images: dict[str, Any], **changes: Any) -> dict[str, Any]:
    counts = {status: sum(one["status"] == status for one in images) for status in ("done", "skipped", "failed")}
    return {
        "format": 1,
        "stego": "0.1.0",
        "created": "2030-01-02T03:04:05Z",
        "model": {
            "name": "tiny",
            "title": "A tiny model",
            "description": "Made for tests.",
            "limits": "Everything else.",
            "trained_on": "",
            "licence": "MIT",
            "backbone": "none",
            "method": "dino",
            "fingerprint": "abc",
        },
        "settings": {"protocol": "native", "crf": {"iterations": 10}, "mirror": False, "tile": None},
        "label_spaces": {
            "cluster": {
                "name": "three",
                "names": ["sky", "pole", "road"],
                "colours": [[1, 2, 3], [250, 251, 252], [128, 64, 128]],
            }
        },
        "summary": {
            "images": len(images),
            **counts,
            "seconds": 2.0,
            "shares": {"cluster": {"sky": 0.25, "road": 0.75}},
        },
        "images": list(images),
    } | changes


def write(out: Path, *images: dict[str, Any], **changes: Any) -> Page:
    return Page(write_gallery(out, predictions(*images, **changes)).read_text("utf-8"))


def resolve(out: Path, address: str) -> bytes:
    """Return the file that a browser opens for a link of the page in `out`."""
    parts = urlsplit(address)
    assert not parts.scheme
    assert not parts.query
    assert not parts.fragment
    return os.path.normpath(os.fsencode(out) + b"/" + unquote_to_bytes(parts.path))


def test_the_page_needs_nothing_from_anywhere(tmp_path: Path) -> None:
    page = write(tmp_path, image("a", str(tmp_path / "a.jpg")))
    content = (tmp_path / "index.html").read_text("utf-8")
    assert not re.search(r"https?:|//cdn|@import|url\(", content)
    assert not [attributes for tag, attributes in page.tags if tag in {"link", "iframe", "object", "base"}]
    assert all("src" not in attributes for _, attributes in page.tags)


def test_only_the_scripts_of_the_page_may_run(tmp_path: Path) -> None:
    page = write(tmp_path, image("a", "a.jpg"))
    policy = next(
        attributes["content"] or ""
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    (script,) = [text for attributes, text in page.scripts if "type" not in attributes]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", image("a", "a.jpg"), failed("b", "bad"))
    hostile = write(
        tmp_path / "hostile",
        image(HOSTILE, HOSTILE, notes=[HOSTILE]),
        failed(HOSTILE, HOSTILE),
        model=predictions()["model"] | {"title": HOSTILE, "limits": HOSTILE},
        settings={"tile": HOSTILE},
    )
    assert [tag for tag, _ in hostile.tags if tag in {"script", "img"}] == [
        tag for tag, _ in plain.tags if tag in {"script", "img"}
    ]
    assert hostile.data["images"][0]["name"] == HOSTILE
    assert hostile.data["images"][0]["notes"] == [HOSTILE]
    assert hostile.text.count(HOSTILE) == 5  # title, limits, the failed input, its reason, the setting


def test_links_lead_to_the_files(tmp_path: Path) -> None:
    out, source = tmp_path / "deep" / "out", tmp_path / "photos"
    for index, name in enumerate(
        ["plain", "with space", "50% #1?", "a:b", "ünï", os.fsdecode(b"caf\xe9"), HOSTILE[-9:]]
    ):
        shown = write(out, image(name, str(source / name))).data["images"][0]
        assert shown["id"] == 1, index
        assert resolve(out, shown["photo"]) == os.fsencode(source / name)
        for kind, suffix in (("labels", "png"), ("overlay", "jpg")):
            folder = "labels" if kind == "labels" else "overlays"
            assert resolve(out, shown["probes"]["cluster"][kind]) == os.fsencode(out / folder / f"{name}.{suffix}")


def test_inputs_may_be_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = write(Path("out"), image("a", "photos/a.jpg")).data["images"][0]
    assert shown["photo"] == "../photos/a.jpg"


def test_an_input_on_another_drive_is_linked_by_its_full_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, start: Path) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", refuse)
    assert link_to_input("/photos/a b.jpg", tmp_path) == "file:///photos/a%20b.jpg"


def test_a_name_that_is_not_utf8_is_shown_with_escapes(tmp_path: Path) -> None:
    page = write(tmp_path, image(os.fsdecode(b"caf\xe9"), "x.jpg"), failed(os.fsdecode(b"th\xe9.jpg"), "broken"))
    assert page.data["images"][0]["name"] == r"caf\udce9"
    assert r"th\udce9.jpg" in page.text


def test_failed_inputs_are_named_with_their_reason_and_have_no_picture(tmp_path: Path) -> None:
    page = write(tmp_path, failed("broken.jpg", "ends too early\n\nhint: copy it again"), image("a", "a.jpg"))
    assert "1 input could not be used" in page.text
    assert "ends too early\nhint: copy it again" in page.text
    assert [shown["id"] for shown in page.data["images"]] == [2]  # the place in predictions.json stays the address


def test_the_work_of_an_earlier_run_is_shown_too(tmp_path: Path) -> None:
    page = write(tmp_path, image("a", "a.jpg", status="skipped"), image("b", "b.jpg"))
    assert [shown["earlier"] for shown in page.data["images"]] == [True, False]
    assert re.search(r"from an earlier run\s*1", page.text)


def test_a_run_that_was_stopped_says_what_is_missing(tmp_path: Path) -> None:
    summary = predictions(image("a", "a.jpg"))["summary"]
    kept = image("b", "b.jpg", status="kept")
    page = write(tmp_path, image("a", "a.jpg"), kept, summary=summary | {"skipped": 2, "kept": 3, "remaining": 7})
    assert re.search(r"from an earlier run\s*5", page.text)
    assert re.search(r"not reached, the run was stopped\s*7", page.text)
    assert page.data["images"][1]["earlier"]


def test_measured_scores_are_shown_as_percent(tmp_path: Path) -> None:
    model = predictions()["model"] | {"scores": {"camvid/val cluster miou": 0.241}}
    assert re.search(r"camvid/val cluster miou\s*24\.1\u202f%", write(tmp_path, image("a", "a.jpg"), model=model).text)


def test_the_legend_lists_what_occurs_by_share_and_then_what_does_not(tmp_path: Path) -> None:
    page = write(tmp_path, image("a", "a.jpg"))
    (probe,) = page.data["probes"]
    assert [entry["name"] for entry in probe["found"]] == ["road", "sky"]
    assert [entry["name"] for entry in probe["absent"]] == ["pole"]
    assert [entry["id"] for entry in probe["classes"]] == [0, 1, 2]
    assert probe["classes"][1]["colour"] == "#fafbfc"
    assert re.search(r"road\s*75\u202f%", page.text)
    assert "1 class not found" in page.text


def test_shares_of_an_image_are_ranked_by_class_id(tmp_path: Path) -> None:
    (shown,) = write(tmp_path, image("a", "a.jpg")).data["images"]
    assert shown["probes"]["cluster"]["shares"] == [[2, 0.75], [0, 0.25]]


def test_pictures_that_were_not_saved_are_not_linked(tmp_path: Path) -> None:
    outputs = {"cluster": {"labels": "labels/a.png", "overlay": None, "probs": None}}
    (shown,) = write(tmp_path, image("a", "a.jpg", outputs=outputs)).data["images"]
    assert set(shown["probes"]["cluster"]) == {"labels", "shares"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cluster 0", "cluster 1"], "no names, only numbers"),
        (["sky", "cluster 7 (no class)"], "those that were left over keep their number"),
        (["sky", "road"], "got the class that fits it best."),
    ],
)
def test_what_the_names_of_clusters_are_worth_is_said(tmp_path: Path, names: list[str], expected: str) -> None:
    space = {"name": "x", "names": names, "colours": [[0, 0, 0], [9, 9, 9]]}
    one = image("a", "a.jpg", shares={"cluster": {names[0]: 1.0}})
    assert expected in write(tmp_path, one, label_spaces={"cluster": space}).text


def test_labels_only_measure_is_said(tmp_path: Path) -> None:
    assert "Labels never train the code" in write(tmp_path, image("a", "a.jpg")).text


def test_model_limits_and_settings_are_on_the_page(tmp_path: Path) -> None:
    text = write(tmp_path, image("a", "a.jpg")).text
    for expected in (
        "A tiny model",
        "Everything else.",
        "iterations 10",
        "not set",
        "native",
        "2.0 s, 0.5 images a second",
    ):
        assert expected in text


def test_a_run_without_any_result_still_has_a_page(tmp_path: Path) -> None:
    nothing = {"images": 1, "done": 0, "skipped": 0, "failed": 1, "seconds": 0, "shares": {"cluster": {}}}
    page = write(tmp_path, failed("a.jpg", "broken"), summary=nothing)
    assert page.data["images"] == []
    assert "0 images" in page.text


def test_ten_thousand_images_make_a_page_of_a_few_megabytes(tmp_path: Path) -> None:
    path = write_gallery(tmp_path, predictions(*(image(f"{index:05d}", f"{index}.jpg") for index in range(10_000))))
    assert path.stat().st_size < 4_000_000
    assert path.read_text("utf-8").count("<img") == 0  # pictures are made by the script, a page at a time


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="out"):
        write_gallery(tmp_path / "out", predictions())


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, "100"), (0.1, "10"), (0.0996, "10"), (0.0994, "9.9"), (0.001, "0.1"), (0.00099, "<0.1"), (0.0, "0")],
)
def test_shares_are_rounded_as_people_write_them(share: float, expected: str) -> None:
    assert percent(share) == f"{expected}\u202f%"


def test_a_link_never_names_a_scheme() -> None:
    assert link("javascript:alert(1)") == "javascript%3Aalert%281%29"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser `chromium`")
def test_a_browser_shows_the_pictures_and_runs_nothing_hostile(tmp_path: Path) -> None:
    page = write_gallery(tmp_path / "out", predictions(image("first", "a.jpg"), image(HOSTILE, HOSTILE)))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", f"{page.as_uri()}#image=2"]
    shown = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout.decode()
    assert shown.count('class="card"') == 2
    assert re.search(r"<dialog[^>]* open", shown)
    assert "2 of 2" in shown
    assert "x" not in [attributes.get("src") for tag, attributes in Page(shown).tags if tag == "img"]
