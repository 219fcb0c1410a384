"""What several tests share and no fixture needs to make."""

from typing import Any

from stego_cli.features.fingerprint import Fingerprint
from stego_cli.progress import Silence


class Heard(Silence):
    """Remembers the notes and warnings that a user would read."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def fingerprint(**changes: Any) -> Fingerprint:
    """What a small feature store is of, but for the changes."""
    values: dict[str, Any] = {
        "kind": "maps",
        "dataset": "d",
        "split": "train",
        "crop": "none",
        "count": 4,
        "images": "aa" * 32,
        "backbone": "b",
        "weights": "cc" * 32,
        "feature_type": "feat",
        "block": -1,
        "patch_size": 8,
        "resolution": 224,
        "loader_crop": "center",
        "protocol": "paper",
        "dtype": "float16",
        "shape": (8, 4, 4),
    }
    return Fingerprint(**{**values, **changes})
