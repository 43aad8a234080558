"""What the OpenAPI document says of the models: their rows, column by column, and what is answered."""

from __future__ import annotations

from typing import Any

from sensorium.serve.model_service import Served

_BASE64 = {
    "type": "object",
    "properties": {"base64": {"type": "string", "contentEncoding": "base64"}, "name": {"type": "string"}},
    "required": ["base64"],
    "additionalProperties": False,
}
_LISTED = {"series": 2, "vector": 1, "points": 2}
"""Kinds of media whose cells may be lists of numbers, and how deep."""
ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["status", "problem"],
            "properties": {
                "status": {"type": "integer"},
                "problem": {"type": "string"},
                "fix": {"type": "string"},
                "row": {"type": ["integer", "null"]},
                "column": {"type": "string"},
                "cells": {"type": "array", "items": {"type": "object"}},
            },
        }
    },
}
PREDICTION: dict[str, Any] = {
    "type": "object",
    "required": ["targets", "missing", "problems"],
    "properties": {
        "targets": {"type": "object", "additionalProperties": {"type": "object", "required": ["value"]}},
        "missing": {"type": "array", "items": {"type": "string"}},
        "problems": {"type": "array", "items": {"type": "object"}},
    },
}
_WHY = {
    "400": "The body cannot be read.",
    "401": "A key is needed.",
    "403": "A page of another site, which may not ask.",
    "404": "No such model.",
    "408": "The request did not arrive in time.",
    "413": "Too large.",
    "415": "Neither JSON nor multipart.",
    "421": "A name by which this server is not asked (Host).",
    "422": "A cell or a column that cannot be used: which, and why.",
    "429": "Too many requests from this address.",
    "500": "An error of the server's own.",
    "503": "Too busy, or going down.",
}
_MODEL = {"name": "model", "in": "query", "schema": {"type": "string"}, "description": "Which model; else the first."}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_BAD = {
    "name": "bad",
    "in": "query",
    "schema": {"enum": ["refuse", "missing"], "default": "refuse"},
    "description": "What a cell that cannot be read does: the request is refused, or the cell counts as missing.",
}
_OWN: dict[str, list[dict[str, Any]]] = {
    "embed": [
        {"name": "stream", "in": "query", "schema": {"type": "string"}, "description": "One stream; else all together."}
    ],
    "explain": [
        {
            "name": "where",
            "in": "query",
            "schema": {"enum": ["no", "yes"], "default": "no"},
            "description": "Whether to tell also where in each modality the answer comes from: of a few rows only.",
        }
    ],
}
"""Parameters that only one route has."""


def row_schema(served: Served) -> dict[str, Any]:
    """A row of a model as JSON Schema. No column is required: missing is normal."""
    cells = {name: _cell(column.spec["kind"], column.reader) for name, column in served.asked.items()}
    return {"type": "object", "properties": cells, "additionalProperties": False}


def _cell(kind: str, reader: Any) -> dict[str, Any]:
    if not reader.media:
        if reader.widget == "number":
            return {"type": ["number", "null"]}
        if kind == "tags":
            return {"anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": {"type": "string"}}]}
        return {"type": ["string", "number", "null"] if reader.single else ["string", "null"]}
    forms: list[dict[str, Any]] = [{"type": "null"}, _BASE64]
    if kind in _LISTED:
        numbers: dict[str, Any] = {"type": "array", "items": {"type": "number"}}
        forms.append(numbers if _LISTED[kind] == 1 else {"type": "array", "items": numbers})
    if kind == "graph":
        forms.append({"type": "object", "required": ["nodes"], "properties": {"nodes": {}, "edges": {"type": "array"}}})
    if reader.several:
        forms.append({"type": "array", "items": _BASE64})
    return {"anyOf": forms}


def operation(
    served: Served, answer: dict[str, Any], listed: str, *, path: bool = False, route: str = "predict"
) -> dict[str, Any]:
    """The part of the document for a route that takes rows. ``listed``: what the answers to several rows stand under."""
    row = row_schema(served)
    parts = {name: _part(column.reader) for name, column in served.asked.items()}
    wrapped = {"type": "object", "required": [listed], "properties": {listed: {"type": "array", "items": answer}}}
    return {
        "parameters": [_NAME if path else _MODEL, _BAD, *_OWN.get(route, [])],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            {
                                "type": "object",
                                "required": ["row"],
                                "properties": {"row": row},
                                "additionalProperties": False,
                            },
                            {
                                "type": "object",
                                "required": ["rows"],
                                "properties": {"rows": {"type": "array", "items": row, "maxItems": served.limits.rows}},
                                "additionalProperties": False,
                            },
                        ]
                    }
                },
                "multipart/form-data": {"schema": {"type": "object", "properties": parts}},
            },
        },
        "responses": {
            "200": {
                "description": "The answer to a row, or to several in their order.",
                "content": {"application/json": {"schema": {"anyOf": [answer, wrapped]}}},
            },
            **{
                code: {"description": why, "content": {"application/json": {"schema": ERROR}}} for code, why in _WHY.items()
            },
        },
    }


def _part(reader: Any) -> dict[str, Any]:
    if not reader.media:
        return {"type": "string"}
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {"type": "array", "items": file} if reader.several else file
