"""What a list of models may hold."""

import pytest

from replay.http.probe import limits


def test_an_owner_that_is_a_secret_is_hidden(monkeypatch):
    monkeypatch.setenv("TRACE_API_KEY", "sk-do-not-write-me")
    entry = {"id": "m", "owned_by": "x" * 70 + "sk-do-not-write-me"}
    assert limits([entry], "m")["owned_by"] == "x" * 70 + "[secret]"


@pytest.mark.parametrize(
    ("entry", "length"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"meta": {"n_ctx": 512, "n_ctx_train": 1024}}, 512),
        ({"max_model_len": "many", "meta": "none"}, None),
        ({}, None),
    ],
)
def test_a_context_length_is_a_number_or_unknown(entry, length):
    assert limits([{"id": "m", **entry}], "m")["max_model_len"] == length
