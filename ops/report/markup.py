"""Elements of a page as a tree, so that text is text: what serializes it escapes all of it, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ops.printable import printable

Child = Element | str | None


def element(tag: str, *children: Child | Iterable[Child], **attributes: object) -> Element:
    """An element; a trailing `_` of an attribute's name is dropped, other `_` become `-`."""
    found = Element(tag, {_name(key): str(value) for key, value in attributes.items()})
    for child in children:
        for each in [child] if child is None or isinstance(child, str | Element) else child:
            _append(found, each)
    return found


def document(root: Element) -> str:
    """The text of an HTML page."""
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"


def _append(parent: Element, child: Child) -> None:
    if child is None:
        return
    if isinstance(child, Element):
        parent.append(child)
        return
    # Style sheets are ours, and keep their lines.
    text = child if parent.tag == "style" else printable(child)
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def _name(key: str) -> str:
    return "viewBox" if key == "view_box" else key.rstrip("_").replace("_", "-")
