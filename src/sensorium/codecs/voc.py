"""Pascal VOC's annotation files: objects and their boxes from XML, without document types, entities or other files."""

from __future__ import annotations

from typing import NamedTuple
from xml.parsers import expat

from sensorium.core.errors import CellError, reason

DEEP = 16
"""Most elements within each other."""
LONG = 4096
"""Most characters of the text of an element."""
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """One ``object`` of a file: its name, the texts of ``xmin``, ``ymin``, ``xmax``, ``ymax``, and whether it is marked as
    difficult."""

    name: str
    corners: tuple[str, str, str, str]
    difficult: bool


def read_voc(data: bytes) -> list[VocObject]:
    """Read the objects of an annotation file; parts of objects (``part``) are left out.

    Args:
        data: The file.

    Raises:
        CellError: It is not XML, has a document type (which may define entities), or an object lacks its name or box.
    """
    path: list[str] = []
    text: list[str] = []
    objects: list[dict[str, str]] = []

    def refuse(*_: object) -> None:
        raise CellError("the XML has a document type, which may define entities", fix="remove <!DOCTYPE ...>")

    def start(name: str, _: dict[str, str]) -> None:
        path.append(name)
        text.clear()
        if len(path) > DEEP:
            raise CellError(f"the XML has more than {DEEP} elements within each other")
        if path[1:] == ["object"]:
            objects.append({})

    def end(name: str) -> None:
        inside = path[1:]
        if len(inside) >= 2 and inside[0] == "object" and inside[1:-1] in ([], ["bndbox"]):
            objects[-1]["".join(f"{part}/" for part in inside[1:-1]) + name] = "".join(text).strip()
        path.pop()
        text.clear()

    def characters(piece: str) -> None:
        text.append(piece)
        if sum(map(len, text)) > LONG:
            raise CellError(f"the XML has an element of more than {LONG} characters")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise CellError(f"damaged XML: {reason(error)}") from None
    return [_object(fields, i) for i, fields in enumerate(objects, 1)]


def _object(fields: dict[str, str], number: int) -> VocObject:
    for key in ("name", *(f"bndbox/{corner}" for corner in _CORNERS)):
        if not fields.get(key):
            raise CellError(f"object {number} of the XML has no {key.replace('bndbox/', '')}")
    left, top, right, bottom = (fields[f"bndbox/{corner}"] for corner in _CORNERS)
    return VocObject(fields["name"], (left, top, right, bottom), fields.get("difficult", "0") not in ("", "0"))
