"""Files are text in UTF-8, also where the locale has another encoding."""

from __future__ import annotations

import ast
import subprocess

from tests.unit.documentation.pages import ROOT


def _has_no_encoding(node: ast.AST) -> bool:
    """Return whether a node reads or writes a text file in the encoding of the locale."""
    if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
        return False
    if isinstance(node.func, ast.Attribute):
        # The encoding may follow the text as a positional argument.
        return len(node.args) <= {"read_text": 0, "write_text": 1}.get(node.func.attr, -1)
    modes = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    is_binary = any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
    return isinstance(node.func, ast.Name) and node.func.id == "open" and not is_binary


def test_the_call_that_leaves_the_encoding_to_the_locale_is_found() -> None:
    left = (
        "path.read_text()",
        "path.write_text(text)",
        "open(path)",
        "open(path, 'w')",
        "open(path, mode='a')",
    )
    given = (
        "path.read_text(encoding='utf-8')",
        "open(path, 'rb')",
        "os.open(path, flags)",
        "path.read_bytes()",
    )
    assert [each for each in (*left, *given) if _has_no_encoding(ast.parse(each, mode="eval").body)] == [
        *left
    ]


def test_every_text_file_is_read_and_written_as_utf_8() -> None:
    listed = ["git", "grep", "--name-only", "-E", r"read_text|write_text|\bopen\(", "--", "*.py", ":!tests"]
    paths = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert len(paths) > 50
    assert [
        f"{path}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse((ROOT / path).read_bytes()))
        if _has_no_encoding(node)
    ] == []
