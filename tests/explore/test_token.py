"""Tokens: they come back as they were, and whatever else is refused in one sentence."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfsim.explore.token import PREFIX, BadToken, Token, decode, encode
from vfsim.sim.choice import Deviation

texts = st.text(max_size=30)
numbers = st.integers(0, 1 << 70)
ids = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}", fullmatch=True)
deviations = st.builds(
    Deviation, ids, st.sampled_from(["p", "b", "waiter"]), numbers, st.integers(0, 9), ids | numbers
)
runs = st.lists(deviations, max_size=20)
tokens = runs.flatmap(
    lambda run: st.builds(
        Token,
        target=texts,
        scenario=texts,
        options=st.lists(
            st.tuples(texts, st.none() | st.booleans() | numbers | texts), max_size=3
        ).map(tuple),
        seed=numbers,
        schedule=numbers,
        rule=texts,
        blamed=texts,
        sources=texts,
        engine=texts,
        fingerprint=texts,
        max_steps=numbers,
        deviations=st.just(tuple(run)),
        expected=st.just(()) | st.lists(texts, min_size=len(run), max_size=len(run)).map(tuple),
    )
)

EXAMPLE = Token(
    target="examples/toyfs.py:ToyFS",
    scenario="CreateVersusUnlink",
    options=(("device", 64), ("mount-options", "x=1")),
    seed=5,
    schedule=17,
    rule="inode_operations.create.i_mutex(inode)",
    blamed="kernel",
    fingerprint="0123abcd",
    deviations=(Deviation("2", "p", 17, 0, "3"), Deviation("3", "waiter", 1, 0, 2)),
    expected=("lock", "down_write"),
)


@given(tokens)
def test_a_token_comes_back_as_it_was(token: Token) -> None:
    """Encoding and decoding are inverse, whatever is in the token."""
    text = encode(token)
    assert decode(text) == token
    assert decode(f"  {text}\n") == token
    assert text.startswith(PREFIX) and text.isascii() and len(text.split()) == 1


def test_an_example_has_always_looked_like_this() -> None:
    """The format is stable: an old token still says the same."""
    assert decode(str(EXAMPLE)) == EXAMPLE
    assert decode(OLD) == EXAMPLE


OLD = (
    "vf1.Nyt1FHjaHYy9CsIwGACTtA0iOOjiG4gOVttugiAIvoA_a4nJJ4Sm-UKS2vbtlS633HFrGETrDIRD"
    "xPETcjeeHjje7qurBxHhBT504WmNts1GW1RQowMvokYbcjk1ua7bLsKwnfyON-AtGEJmx6KsxFuqbEkY"
    "V_DVEpLLosXOxj26aZEmw7ngtEoNyoaW1M0V9rbuvY7Ae_GnZyxZEspIRkma_QAdvzcM"
)


@given(st.text(max_size=60))
def test_foreign_text_is_refused(text: str) -> None:
    """What is no token is refused with one sentence that says so."""
    with pytest.raises(BadToken, match=r"not a vfsim token|damaged|version"):
        decode(text)


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{0,60}", fullmatch=True))
def test_damaged_bodies_are_refused(text: str) -> None:
    """The right prefix with anything behind it is called damaged."""
    with pytest.raises(BadToken, match="damaged"):
        decode(PREFIX + text)


@given(st.data())
@settings(max_examples=200)
def test_a_changed_character_is_noticed(data: st.DataObject) -> None:
    """Changing, removing or adding a character never gives another token."""
    text = encode(EXAMPLE)
    at = data.draw(st.integers(len(PREFIX), len(text) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_"))
    for wrong in (text[:at] + other + text[at + 1 :], text[:at], text[:at] + other + text[at:]):
        if wrong != text:
            try:
                assert decode(wrong) == EXAMPLE  # the last bits of the last character mean nothing
            except BadToken:
                pass


def test_other_versions_are_told_apart() -> None:
    """A token of a later version names both versions."""
    with pytest.raises(BadToken, match=r"version 2, and this vfsim reads version 1"):
        decode("vf2.abc")


def sealed(body: bytes) -> str:
    body = zlib.compress(body)
    raw = zlib.crc32(body).to_bytes(4, "big") + body
    return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@given(st.binary(max_size=80))
def test_a_forged_body_is_refused(body: bytes) -> None:
    """Even with a right checksum, bytes that are no token are refused, never trusted."""
    try:
        assert isinstance(decode(sealed(body)), Token)
    except BadToken:
        pass


def test_a_bomb_does_not_go_off() -> None:
    """A small token that would unpack to gigabytes is refused."""
    with pytest.raises(BadToken, match="damaged"):
        decode(sealed(bytes(50_000_000)))
    with pytest.raises(BadToken, match="damaged"):
        decode(sealed(b"\x00" * 7 + b"\xff" * 200))


def test_the_sentence_is_one_line() -> None:
    """Control characters of a foreign text do not reach the terminal."""
    with pytest.raises(BadToken) as caught:
        decode("\x1b[31m\n" * 20)
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
