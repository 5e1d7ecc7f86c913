"""HTML elements as a tree. The serializer escapes all text, so that foreign text never becomes markup."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ops.printable import escaped, printable

Child = Element | str | None


def element(tag: str, *children: Child | Iterable[Child], **attributes: object) -> Element:
    """Create an element. In attribute names, a trailing `_` is dropped, and other `_` become `-`."""
    found = Element(tag, {_name(key): escaped(str(value), "\n\t") for key, value in attributes.items()})
    for child in children:
        for each in [child] if child is None or isinstance(child, str | Element) else child:
            _append(found, each)
    return found


def document(root: Element) -> str:
    """Return the text of an HTML page."""
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"


def _append(parent: Element, child: Child) -> None:
    if child is None:
        return
    if isinstance(child, Element):
        parent.append(child)
        return
    # Style sheets come from groundwork and keep their line breaks.
    text = child if parent.tag == "style" else printable(child)
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def _name(key: str) -> str:
    return "viewBox" if key == "view_box" else key.rstrip("_").replace("_", "-")
