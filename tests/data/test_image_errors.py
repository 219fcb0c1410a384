"""Files that cannot be used: each is refused with its name, the reason and a next step, and nothing worse."""

import errno
import os
import struct
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stego_cli.data import image_errors
from stego_cli.data.images import MAX_PIXELS, image_size, read_image
from stego_cli.errors import ImageError

PIXELS = np.kron(np.random.default_rng(0).integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def refusal(path: Path, reader=read_image) -> str:
    """Return the message of the refusal, after checking its form."""
    with pytest.raises(ImageError) as caught:
        reader(path)
    message = str(caught.value)
    assert message.startswith(f"cannot read image `{path}`: ")
    reason, hint = message.split("\n\nhint: ")
    assert len(hint) > 10
    assert "Traceback" not in reason
    return message


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory) -> dict[str, bytes]:
    """One small file of each kind."""
    folder = tmp_path_factory.mktemp("sound")
    for name, options in {
        "a.jpg": {},
        "progressive.jpg": {"progressive": True},
        "a.png": {},
        "a.bmp": {},
        "a.webp": {},
        "lossless.webp": {"lossless": True},
        "a.gif": {},
        "a.ppm": {},
        "a.tif": {},
        "lzw.tif": {"compression": "tiff_lzw"},
    }.items():
        Image.fromarray(PIXELS).save(folder / name, **options)
    bands = np.concatenate([PIXELS] * 3, axis=2)
    layout = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(folder / "bands.tif", bands, **layout)
    tifffile.imwrite(folder / "deflated_bands.tif", bands, compression="zlib", rowsperstrip=8, **layout)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


KINDS = [
    *("a.jpg", "progressive.jpg", "a.png", "a.bmp", "a.webp", "lossless.webp", "a.gif", "a.ppm"),
    *("a.tif", "lzw.tif", "bands.tif", "deflated_bands.tif"),
]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_truncated_images(tmp_path, sound_files, name, share) -> None:
    path = tmp_path / name
    content = sound_files[name]
    path.write_bytes(content)
    assert read_image(path).pixels.shape == PIXELS.shape  # sound before the cut
    path.write_bytes(content[: max(int(len(content) * share), 8)])
    message = refusal(path)
    assert "damaged or cut short" in message or share == 0.001


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_give_an_image_or_an_image_error(tmp_path, sound_files, data) -> None:
    content = bytearray(sound_files[data.draw(st.sampled_from(KINDS))])
    for _ in range(data.draw(st.integers(1, 6))):
        # Mostly in the header, where damage does most.
        place = data.draw(st.integers(0, 200) | st.integers(0, len(content) - 1))
        content[min(place, len(content) - 1)] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(content)
    for reader in (read_image, image_size):
        with suppress(ImageError):  # and nothing else
            assert len(reader(path) if reader is image_size else reader(path).pixels.shape) in (2, 3)


@pytest.mark.parametrize("reader", [read_image, image_size])
def test_an_empty_file(tmp_path, reader) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    assert "0 bytes" in refusal(path, reader)


@pytest.mark.parametrize("reader", [read_image, image_size])
def test_a_folder_named_like_an_image(tmp_path, reader) -> None:
    path = tmp_path / "x.jpg"
    path.mkdir()
    assert "is a folder" in refusal(path, reader)


@pytest.mark.parametrize("reader", [read_image, image_size])
def test_a_file_that_is_not_there(tmp_path, reader) -> None:
    assert "no such file" in refusal(tmp_path / "gone.jpg", reader)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    assert "no such file" in refusal(tmp_path / "link.jpg", reader)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"just some words\nand more of them\n", "a text file"),
        ("für Wörter".encode(), "a text file"),
        (b"  <!DOCTYPE html><html>not found</html>", "a web page"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC or AVIF photo"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a text file"),  # Pillow would start Ghostscript
        (bytes(range(256)), "no known format"),
    ],
)
def test_what_a_file_is_instead_of_an_image(tmp_path, content, words) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for reader in (read_image, image_size):
        assert words in refusal(path, reader)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path) -> None:
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    messages: list[str] = []
    thread = threading.Thread(target=lambda: messages.append(refusal(path)), daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert "pipe or device" in messages[0]


def test_a_device_is_refused() -> None:
    assert "pipe or device" in refusal(Path(os.devnull))


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "no permission"), (errno.EIO, "Input/output error"), (errno.ELOOP, "Too many levels")],
)
def test_what_the_system_says_is_passed_on(tmp_path, monkeypatch, number, words) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)

    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))  # Python turns EACCES into PermissionError

    monkeypatch.setattr(Path, "open", fail)
    assert words in refusal(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    path.chmod(0)
    assert "no permission" in refusal(path)


def test_a_name_that_no_file_can_have(tmp_path) -> None:
    assert "too long" in refusal(tmp_path / ("x" * 300)).lower()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds one row of nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Small files that claim to be enormous."""
    side = 60_000
    bmp = (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    gif = b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + b","
    gif += struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x01\0\0;"
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, 100)]
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags))
    tiff += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    many = [(tag, 9 if tag == 277 else value) for tag, value in tags]
    bands = b"II*\0" + struct.pack("<IH", 8, len(many))
    bands += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in many) + bytes(4)
    return {
        "a.png": png_header(side, side),
        "wide.png": png_header(2**31 - 1, 1),
        "a.ppm": b"P6 60000 60000 255\n" + bytes(100),
        "a.bmp": bmp,
        "a.gif": gif,
        "a.tif": tiff,
        "bands.tif": bands,
    }


@pytest.mark.parametrize("name", bombs())
def test_decompression_bombs_are_refused_at_once(tmp_path, name) -> None:
    path = tmp_path / name
    path.write_bytes(bombs()[name])
    started = time.perf_counter()
    for reader in (read_image, image_size):
        message = refusal(path, reader)
        assert "too large" in message
        assert "500 megapixels" in message
    assert time.perf_counter() - started < 5


def test_the_limit_is_on_the_number_of_pixels(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    assert MAX_PIXELS == 500_000_000
    monkeypatch.setattr(image_errors, "MAX_PIXELS", 48 * 64)
    assert image_size(path) == (48, 64)
    monkeypatch.setattr(image_errors, "MAX_PIXELS", 48 * 64 - 1)
    assert "48x64 (height x width)" in refusal(path, image_size)


def test_an_image_without_pixels(tmp_path) -> None:
    for name, content in {"a.png": png_header(0, 7), "a.ppm": b"P6 0 7 255\n"}.items():
        (tmp_path / name).write_bytes(content)
        refusal(tmp_path / name)
        refusal(tmp_path / name, image_size)


def test_memory_that_is_not_there(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)

    def fail(_image):
        raise MemoryError

    monkeypatch.setattr("stego_cli.data.images._load", fail)
    assert "not enough memory" in refusal(path)
