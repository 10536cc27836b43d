"""The expressions of Azure's deployment templates, evaluated as its Resource Manager does, as far as Ray's two go.

The language: <https://learn.microsoft.com/azure/azure-resource-manager/templates/template-expressions>.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|-?\d+|\w+|[()\[\],.])")


class Broken(Exception):  # noqa: N818 - what the template is
    """A template that Azure refuses."""


class Scope:
    """What an expression may name: parameters, variables, the number of the copy, and the resource group.

    Args:
        parameters: values by name.
        variables: what stands in the template.
        group: id and location of the resource group.
        referred: gives the properties of a resource that is there, by its id.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        variables: Mapping[str, Any],
        group: Mapping[str, str],
        referred: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self._parameters, self._variables, self._group = parameters, variables, group
        self.index = 0
        self._functions: dict[str, Callable[..., Any]] = {
            "concat": lambda *parts: "".join(str(one) for one in parts),
            "copyIndex": lambda: self.index,
            "createArray": lambda *parts: list(parts),
            "equals": lambda one, other: one == other,
            "greater": lambda one, other: one > other,
            "guid": lambda *parts: str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts))),
            "json": lambda text: json.loads(text),
            "length": len,
            "mod": lambda one, other: one % other,
            "not": lambda one: not one,
            "parameters": lambda name: self._named(self._parameters, "parameter", name),
            "resourceGroup": lambda: dict(self._group),
            "reference": lambda name, _version="": referred(name),
            "resourceId": self._resource_id,
            "string": str,
            "subscriptionResourceId": lambda kind, name: f"{self._subscription()}/providers/{kind}/{name}",
            "variables": lambda name: self.value(self._named(self._variables, "variable", name)),
        }

    def value(self, told: Any) -> Any:
        """Return a part of a template with all its expressions evaluated, keys among them."""
        if isinstance(told, Mapping):
            return {self.value(name): self.value(one) for name, one in told.items()}
        if isinstance(told, list):
            return [self.value(one) for one in told]
        if isinstance(told, str) and told.startswith("[") and told.endswith("]"):
            tokens = deque(found[1] for found in _TOKEN.finditer(told[1:-1]))
            parsed = self._parsed(tokens)
            if tokens:
                raise Broken(f"the template language expression '{told}' is not valid")
            return parsed()
        return told

    def _parsed(self, tokens: deque[str]) -> Callable[[], Any]:
        """Take an expression off the tokens, and return what evaluates it: of an `if` only the branch that counts."""
        token = tokens.popleft()
        if token.startswith("'"):
            return lambda: token[1:-1].replace("''", "'")
        if re.fullmatch(r"-?\d+", token):
            return lambda: int(token)
        if not tokens or tokens.popleft() != "(":
            raise Broken(f"the template function '{token}' is not called")
        arguments: list[Callable[[], Any]] = []
        while tokens[0] != ")":
            arguments.append(self._parsed(tokens))
            if tokens[0] == ",":
                tokens.popleft()
        tokens.popleft()
        found = self._call(token, arguments)
        while tokens and tokens[0] in ".[":
            found = self._inside(found, tokens)
        return found

    def _call(self, name: str, arguments: list[Callable[[], Any]]) -> Callable[[], Any]:
        if name == "if":
            condition, yes, no = arguments
            return lambda: yes() if condition() else no()
        if name not in self._functions:
            raise Broken(f"the template function '{name}' is not known")
        return lambda: self._functions[name](*(one() for one in arguments))

    def _inside(self, outer: Callable[[], Any], tokens: deque[str]) -> Callable[[], Any]:
        """Take a property or an index off the tokens, and return what evaluates it."""
        if tokens.popleft() == ".":
            name = tokens.popleft()
            return lambda: outer()[name]
        index = self._parsed(tokens)
        tokens.popleft()
        return lambda: outer()[index()]

    def _subscription(self) -> str:
        return self._group["id"].partition("/resourceGroups/")[0]

    def _resource_id(self, *parts: str) -> str:
        """Return the id of a resource by its type and its names, in this group or one that comes first."""
        base = self._group["id"]
        if "/" not in parts[0]:
            base, parts = f"{self._subscription()}/resourceGroups/{parts[0]}", parts[1:]
        space, *kinds = parts[0].rstrip("/").split("/")
        return f"{base}/providers/{space}" + "".join(
            f"/{kind}/{name}" for kind, name in zip(kinds, parts[1:], strict=True)
        )

    def _named(self, known: Mapping[str, Any], what: str, name: str) -> Any:
        # Names have no case for Azure.
        found = {one.lower(): value for one, value in known.items()}
        if name.lower() not in found:
            raise Broken(f"the template {what} '{name}' is not found")
        return found[name.lower()]
