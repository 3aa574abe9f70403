"""Numbers for people."""

import pytest

from toolkit.readable import number, percent, seconds, spark


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (7.0, "7"), (12345.6, "12,346"), (123.456, "123"), (12.345, "12.3"), (0.012345, "0.0123")),
        *((0.99999, "1.000"), (-0.5, "-0.500"), (1e-7, "1.00e-07"), (None, "–"), (float("nan"), "–")),
    ],
)
def test_three_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0 s"), (1e-7, "100 ns"), (0.0032, "3.20 ms"), (1.0, "1 s"), (100.0, "100 s"), (600, "10 min")),
        *((7200, "2 h"), (3600, "60 min"), (1987200, "23 d"), (0.1, "100 ms"), (None, "–")),
    ],
)
def test_durations_in_a_unit_that_fits(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_charts_fit_their_width_and_show_silence() -> None:
    assert spark([0, 1, 4, 8], 10) == " ▂▅█"
    assert len(spark(list(range(1000)), 40)) == 40
    assert spark([0, 0], 5) == ""
    assert percent(0.19733) == "19.7 %"
