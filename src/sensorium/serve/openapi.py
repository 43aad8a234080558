"""The OpenAPI document: request rows, column by column, and responses."""

from __future__ import annotations

from typing import Any

from sensorium.serve.model_service import ModelService

_BASE64 = {
    "type": "object",
    "properties": {"base64": {"type": "string", "contentEncoding": "base64"}, "name": {"type": "string"}},
    "required": ["base64"],
    "additionalProperties": False,
}
_LISTED = {"series": 2, "vector": 1, "points": 2}
"""Kinds of media whose cells may be nested lists of numbers, with the nesting depth."""
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
_STATUS = {
    "400": "The body cannot be read.",
    "401": "An API key is required.",
    "403": "A page of another web site, which is not allowed.",
    "404": "No such model.",
    "408": "The request did not arrive in time.",
    "413": "Too large.",
    "415": "Neither JSON nor multipart.",
    "421": "A host name that this server does not accept.",
    "422": "An invalid cell or column; the message names it.",
    "429": "Too many requests from this address.",
    "500": "An internal server error.",
    "503": "The server is busy or shutting down.",
}
_MODEL = {"name": "model", "in": "query", "schema": {"type": "string"}, "description": "The model [default: the first]."}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_BAD = {
    "name": "bad",
    "in": "query",
    "schema": {"enum": ["refuse", "missing"], "default": "refuse"},
    "description": "Whether unreadable cells are an error or count as missing.",
}
_ROUTE_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "predict": [
        {
            "name": "places",
            "in": "query",
            "schema": {"enum": ["no", "yes"], "default": "no"},
            "description": "Whether to add boxes, regions and points in pixels of their picture, by task.",
        }
    ],
    "search": [
        {"name": "top", "in": "query", "schema": {"type": "integer", "default": 10}, "description": "Number of rows."},
        {"name": "filter", "in": "query", "schema": {"type": "string"}, "description": "Only rows where: price < 20"},
        {"name": "among", "in": "query", "schema": {"type": "string"}, "description": "The sides to search: photo,note"},
        {"name": "row", "in": "query", "schema": {"type": "string"}, "description": "A row of the index as the query."},
    ],
    "embed": [
        {
            "name": "stream",
            "in": "query",
            "schema": {"type": "string"},
            "description": "One stream [default: the joint vector].",
        }
    ],
    "explain": [
        {
            "name": "where",
            "in": "query",
            "schema": {"enum": ["no", "yes"], "default": "no"},
            "description": "Whether to add attributions within each modality; for a few rows only.",
        },
        {
            "name": "about",
            "in": "query",
            "schema": {"type": "string"},
            "description": "Of one row, the number of the box, region, line or point to explain, or target:number; of "
            "edges also a place in pixels of the image, x,y.",
        },
    ],
}
"""Parameters of single routes."""


def row_schema(service: ModelService) -> dict[str, Any]:
    """Return the JSON Schema of a row for the model ``service``. No column is required, since any may be missing."""
    cells = {name: _cell(column.spec["kind"], column.reader) for name, column in service.columns.items()}
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
    if kind == "molecule":
        forms.append({"type": "string", "description": "SMILES"})
    if kind == "graph":
        forms.append({"type": "object", "required": ["nodes"], "properties": {"nodes": {}, "edges": {"type": "array"}}})
    if reader.several:
        forms.append({"type": "array", "items": _BASE64})
    return {"anyOf": forms}


def operation(
    service: ModelService, answer: dict[str, Any], listed: str, *, path: bool = False, route: str = "predict"
) -> dict[str, Any]:
    """Return the OpenAPI description of a route that takes rows.

    Args:
        service: The model.
        answer: The JSON Schema of the answer to a row.
        listed: The key of the list of answers to several rows.
        path: Whether the name of the model is in the path.
        route: The name of the route.
    """
    row = row_schema(service)
    table: list[dict[str, Any]] = []
    if service.predictor.artifact.recipe.data.windows is not None:
        moments = {"type": "array", "items": {"type": "object"}, "description": "A long table: a row for each moment."}
        table = [{"type": "object", "required": ["table"], "properties": {"table": moments}, "additionalProperties": False}]
    parts = {name: _part(column.reader) for name, column in service.columns.items()}
    wrapped = {"type": "object", "required": [listed], "properties": {listed: {"type": "array", "items": answer}}}
    return {
        "parameters": [_NAME if path else _MODEL, _BAD, *_ROUTE_PARAMETERS.get(route, [])],
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
                                "properties": {"rows": {"type": "array", "items": row, "maxItems": service.limits.rows}},
                                "additionalProperties": False,
                            },
                            *table,
                        ]
                    }
                },
                "multipart/form-data": {"schema": {"type": "object", "properties": parts}},
            },
        },
        "responses": {
            "200": {
                "description": "The answer to one row, or the answers to several rows in order.",
                "content": {"application/json": {"schema": {"anyOf": [answer, wrapped]}}},
            },
            **{
                code: {"description": reason, "content": {"application/json": {"schema": ERROR}}}
                for code, reason in _STATUS.items()
            },
        },
    }


def _part(reader: Any) -> dict[str, Any]:
    if not reader.media:
        return {"type": "string"}
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {"type": "array", "items": file} if reader.several else file
