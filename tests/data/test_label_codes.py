from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stego_cli.data.label_codes import UNCHANGED, LabelCode, identity_code, load_label_code
from stego_cli.data.labels import IGNORE_LABEL, available_label_spaces, load_label_space, stored_values
from stego_cli.errors import ConfigError


def test_a_table_worked_by_hand() -> None:
    code = LabelCode(table=(2, IGNORE_LABEL, 0))
    stored = np.array([[0, 1, 2], [3, 255, -5]])
    np.testing.assert_array_equal(code.class_ids(stored), [[2, -1, 0], [-1, -1, -1]])


def test_what_was_added_is_taken_away_first() -> None:
    stored = np.array([[0, 1, 2, 3]])
    np.testing.assert_array_equal(LabelCode(None, added=1).class_ids(stored), [[-1, 0, 1, 2]])
    np.testing.assert_array_equal(LabelCode((5, 6), added=1).class_ids(stored), [[-1, 5, 6, -1]])


def test_without_a_table_values_stay_and_what_is_below_zero_is_no_class() -> None:
    np.testing.assert_array_equal(
        UNCHANGED.class_ids(np.array([[0, 7, 255, 70000, -1, -9999]])), [[0, 7, 255, 70000, -1, -1]]
    )


def test_class_ids_themselves_beyond_the_classes_are_no_class() -> None:
    np.testing.assert_array_equal(identity_code(3).class_ids(np.array([[0, 2, 3, 255]])), [[0, 2, -1, -1]])
    assert identity_code(None) == UNCHANGED


@given(st.lists(st.integers(-2, 300), min_size=1), st.sampled_from(available_label_spaces()))
def test_every_label_space_gives_its_own_ids_only(values: list[int], name: str) -> None:
    ids = load_label_code(name).class_ids(np.array([values]))
    assert ids.dtype == np.int64
    assert ((ids >= IGNORE_LABEL) & (ids < len(load_label_space(name)))).all()


@pytest.mark.parametrize("name", available_label_spaces())
def test_a_stored_value_stands_for_one_class_and_every_class_has_one(name: str) -> None:
    values = stored_values(name)
    every = [value for stored in values for value in stored]
    assert len(values) == len(load_label_space(name))
    assert all(values)
    assert len(set(every)) == len(every)
    ids = load_label_code(name).class_ids(np.array([every]))[0]
    np.testing.assert_array_equal(ids, [class_id for class_id, stored in enumerate(values) for _ in stored])


def test_a_label_space_that_says_nothing_holds_class_ids() -> None:
    assert stored_values("camvid") == tuple((class_id,) for class_id in range(11))
    assert load_label_code("voc2012") == identity_code(21)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean `potsdam`"):
        load_label_code("potsdan")
