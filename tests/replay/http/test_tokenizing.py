"""Prompts of exact lengths by the served model's tokenizer; those that need the package: pip install tokenizers."""

import sys

import pytest

from replay.http.prompts import Units
from replay.http.tokenizing import one_token_words
from tests.replay.http.scripted import Asked, serving
from tests.replay.http.test_replaying import replay, trace_file
from toolkit.errors import SettingFailure
from toolkit.runs import Run

TEMPLATE = 9  # tokens around a message
TEXT = "the time was good and then some more words were read by them over there while others walk home again slowly "


def tokenizer_file(folder, text=TEXT * 3, size=400):
    """A byte-level tokenizer trained on a little text: most of its words are one token, some are not."""
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not here: pip install tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([text, "\n".join(text.split())], trainer)
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json", made


LONG = " ".join(f"{a}{b}{c}{d}" for a in "bdf" for b in "ae" for c in "lmn" for d in "do")


def chat(count):
    """A server of conversations alone that counts tokens by `count(text)`."""

    async def script(asked: Asked) -> None:
        if asked.method == "GET":
            await asked.answer(200, {"data": [{"id": "served"}]})
        elif asked.path != "/v1/chat/completions":
            await asked.answer(404, {"error": "no such path"})
        else:
            text = asked.body["messages"][0]["content"]
            most = asked.body["max_tokens"]
            await asked.stream(
                {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
                *[{"choices": [{"delta": {"content": "x"}, "finish_reason": None}]}] * most,
                {"choices": [{"delta": {}, "finish_reason": "length"}]},
                {"choices": [], "usage": {"prompt_tokens": count(text) + TEMPLATE, "completion_tokens": most}},
            )

    return script


ROWS = [{"arrival_s": 0.02 * n, "prompt_tokens": 20 + 37 * n, "output_tokens": 2} for n in range(12)]


def test_every_prompt_has_its_length_by_the_servers_count(tmp_path):
    path, made = tokenizer_file(tmp_path, LONG, 700)
    with serving(chat(lambda text: len(made.encode(text).ids))) as server:
        done = replay(trace_file(tmp_path, ROWS), tmp_path / "r", "--url", server.url, "--tokenizer", path)
    assert done.exit_code in (0, 3), done.output
    info = Run.open(tmp_path / "r/fcfs").info
    assert info["lengths"]["prompts_exact"] == 1.0
    (can,) = info["engine"]["capabilities"].values()
    assert can["prompts"] == "words, 1 tokens each and 9 more a prompt, as usage counts them"
    texts = {asked.body["messages"][0]["content"] for asked in server.asked if asked.tag >= 0}
    assert len(texts) == len(ROWS)


def test_words_are_one_token_each_and_those_that_are_not_are_left_out(tmp_path):
    path, made = tokenizer_file(tmp_path, LONG, 700)
    words = one_token_words(path)
    assert len(words) >= 16
    assert {len(word) for word in words} == {4}
    assert "time" not in words
    prompt = Units(words=tuple(words)).prompt(1 << 63, 300, [5, 6], 16)[1:].decode()
    assert len(made.encode(prompt).ids) == 300
    assert one_token_words(tmp_path) == words


def test_another_models_tokenizer_is_found_out(tmp_path):
    path, _ = tokenizer_file(tmp_path, LONG, 700)
    with serving(chat(len)) as server:
        refused = replay(trace_file(tmp_path, ROWS), tmp_path / "r", "--url", server.url, "--tokenizer", path)
    assert refused.exit_code == 1
    assert "--tokenizer: its words of one token are 5 tokens each" in refused.output


def test_too_few_words_are_refused(tmp_path):
    path, _ = tokenizer_file(tmp_path, "to be or not to be", 260)
    with pytest.raises(SettingFailure, match="0 words of one token, and 16 are needed"):
        one_token_words(path)


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_file_that_is_no_tokenizer_is_refused(content, tmp_path):
    pytest.importorskip("tokenizers", reason="the package tokenizers is not here: pip install tokenizers")
    if content:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(SettingFailure, match="is no tokenizer" if content else "is not there"):
        one_token_words(tmp_path / "tokenizer.json")


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    words = ("--url", "http://127.0.0.1:1", "--tokenizer", tmp_path)
    refused = replay(trace_file(tmp_path, ROWS[:1]), tmp_path / "r", *words)
    assert refused.exit_code == 1
    assert refused.output.strip() == (
        "trace: --tokenizer: needs the package tokenizers; pip install 'trace-toolkit[tokenizers]'"
    )
