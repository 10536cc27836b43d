from __future__ import annotations

import json
from typing import Any

import openapi_spec_validator
import pytest
from pydantic import BaseModel

from serve.openapi import BODIES
from tests.unit.serve.face import Face


@pytest.fixture
def document(face: Face) -> dict[str, Any]:
    return dict(face.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    openapi_spec_validator.validate(document)


def test_every_operation_says_what_it_does_and_belongs_to_a_topic(document: dict[str, Any]) -> None:
    topics = {tag["name"] for tag in document["tags"]}
    for operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= topics


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]


def test_every_example_of_a_body_is_accepted_by_its_type(document: dict[str, Any]) -> None:
    models: dict[str, type[BaseModel]] = {model.__name__: model for model in BODIES}
    seen = set()
    for operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        name = content["schema"]["$ref"].rsplit("/", 1)[1].removesuffix("-Input")
        for example in content["examples"].values():
            models[name].model_validate_json(json.dumps(example["value"]))
        seen.add(name)
    assert seen == set(models)


def test_the_example_task_is_accepted_once_its_file_is_there(face: Face, document: dict[str, Any]) -> None:
    face.post("/v1/inputs", content=b"test")
    body = document["paths"]["/v1/tasks"]["post"]["requestBody"]["content"]["application/json"]
    assert face.post("/v1/tasks", json=body["examples"]["swmm"]["value"]).status_code == 201
    body = document["paths"]["/v1/tasks:batch"]["post"]["requestBody"]["content"]["application/json"]
    answer = face.post("/v1/tasks:batch", json=body["examples"]["two-tasks"]["value"])
    assert all(result["created"] for result in answer.json()["results"])
