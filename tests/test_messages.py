"""The page of messages: each call raises exactly the error message that the page shows below it."""

import pathlib
import re

import jax
import pytest

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "messages.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
CALLS, TEXTS = BLOCKS[1::2], BLOCKS[2::2]


def test_below_each_call_stands_its_message():
    assert [kind for kind, _ in BLOCKS] == ["python"] + ["python", "text"] * 13


@pytest.mark.parametrize(("call", "text"), [(call, text) for (_, call), (_, text) in zip(CALLS, TEXTS, strict=True)])
def test_the_message_is_the_one_of_the_page(call, text, capsys):
    names = {}
    with jax.enable_x64(False):
        exec(BLOCKS[0][1], names)
        exec(call, names)
    assert capsys.readouterr().out.split() == text.split()
