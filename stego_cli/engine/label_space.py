"""Which classes a model is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stego_cli.data.labels import anonymous_label_space, available_label_spaces
from stego_cli.errors import ConfigError

if TYPE_CHECKING:
    from stego_cli.config.model import LabelSpace
    from stego_cli.data.dataset import Dataset
    from stego_cli.progress import Report


def choose_label_space(dataset: Dataset, named: str | None, classes: int | None, report: Report) -> LabelSpace:
    """Return the classes that labels speak of; without labels, one unnamed class per cluster.

    Args:
        dataset: What the model learns from, opened under the label space `named`.
        named: The label space that was asked for; None leaves it to the dataset.
        classes: How many classes were asked for.
        report: Told if the dataset decides.

    Raises:
        ConfigError: If nothing says how many classes there are.
    """
    space = dataset.label_space
    if space is not None and (named is not None or dataset.is_labelled):
        if named is None:
            report.note(f"label space: {space.name}, after the dataset's name (--label-space chooses another)")
        return space
    if classes is None:
        raise ConfigError(
            "nothing says how many classes to form\n\n"
            f"hint: add --classes N, or --label-space with one of {', '.join(available_label_spaces())}"
        )
    return anonymous_label_space(classes, "class" if dataset.is_labelled else "cluster")
