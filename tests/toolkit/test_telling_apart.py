"""Names of sources that are looked at together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.telling_apart import told_apart


@pytest.mark.parametrize(
    ("names", "places", "told"),
    [
        (["fcfs", "sjf"], ["/a/fcfs", "/b/sjf"], ["fcfs", "sjf"]),
        (["fcfs", "fcfs", "sjf"], ["/mon/fcfs", "/tue/fcfs", "/tue/sjf"], ["mon/fcfs", "tue/fcfs", "sjf"]),
        (["export", "export"], ["/runs/a", "/runs/b"], ["a", "b"]),
        (["x", "x", "b"], ["/runs/a", "/runs/b", "/other/b"], ["a", "runs/b", "b"]),
        (["same", "same"], ["/one", "/one"], ["same", "same"]),
    ],
)
def test_as_much_of_the_path_as_is_needed(names: list[str], places: list[str], told: list[str]) -> None:
    assert told_apart(names, places) == told


PLACES = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), unique=True, max_size=6)


@given(places=PLACES, data=st.data())
def test_other_places_have_other_names(places: list[str], data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(["a", "b", "a/b"]), min_size=len(places), max_size=len(places)))
    told = told_apart(names, places)
    assert len(set(told)) == len(told)
    if len(set(names)) == len(names):
        assert told == names
