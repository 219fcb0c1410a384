"""What several tests share and no fixture needs to make."""

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
