"""Amounts of memory: parsing user input, and formatting for Postgres and Redis."""

from __future__ import annotations

import pytest

from infra.spec.quantity import format_mb, parse_bytes
from tests.cases import in_case


def test_an_amount_is_parsed_in_units_of_1024() -> None:
    cases: list[tuple[str, int]] = [
        ("1B", 1),
        ("64KB", 65_536),
        ("512MB", 536_870_912),
        ("1GB", 1_073_741_824),
        ("1gb", 1_073_741_824),
        (" 2 GB ", 2_147_483_648),
        ("0MB", 0),
    ]
    for text, amount in cases:
        with in_case(text, amount):
            assert parse_bytes(text) == amount


def test_an_invalid_amount_is_refused_with_its_text() -> None:
    cases: list[str] = ["", "lots", "128", "128M", "1.5GB", "-1MB", "MB", "1MB 2MB", "1TB", "\u0661MB"]
    for text in cases:
        with in_case(text):
            with pytest.raises(ValueError, match="is not an amount of memory") as refusal:
                parse_bytes(text)
            assert repr(text) in str(refusal.value)


def test_an_amount_is_formatted_in_whole_mebibytes_rounded_down() -> None:
    cases: list[tuple[int, str]] = [
        (134_217_728, "128MB"),
        (134_217_727, "127MB"),
        (1024**3, "1024MB"),
        (0, "0MB"),
    ]
    for amount, text in cases:
        with in_case(amount, text):
            assert format_mb(amount) == text


def test_a_formatted_amount_is_parsed_as_the_same_amount() -> None:
    for text in ("1MB", "160MB", "4096MB"):
        with in_case(text):
            assert format_mb(parse_bytes(text)) == text
