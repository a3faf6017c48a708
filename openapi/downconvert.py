"""Says an OpenAPI 3.1 document in the words of 3.0.3, for generators that know no other: downconvert.py openapi.json > openapi-3.0.3.json

Nothing is lost that 3.0 can say. What it cannot say is refused by its place, not dropped, but for two things that change no client:
`propertyNames` that only say that names are strings, and all examples of a schema but the first.
"""

import json
import sys

# What a schema may hold in 3.0; what else a 3.1 schema may hold is translated below or refused.
SAME = {
    "title", "description", "default", "format", "enum", "required", "multipleOf", "maximum", "minimum", "maxLength", "minLength",
    "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "readOnly", "writeOnly", "deprecated",
    "example", "discriminator", "externalDocs", "xml",
}  # fmt: skip
# Keywords that hold a schema, and those that hold several.
INNER = {"items", "not"}
LISTS = {"allOf", "anyOf", "oneOf"}


class CannotSay(Exception):
    """3.0 has no words for it."""


def convert(document):
    """The document in 3.0.3; the one given stays as it is."""
    if not str(document.get("openapi", "")).startswith("3.1."):
        raise CannotSay("/openapi: this is no 3.1 document")
    for name in ("webhooks", "jsonSchemaDialect"):
        if name in document:
            raise CannotSay(f"/{name}")
    if "pathItems" in document.get("components", {}):
        raise CannotSay("/components/pathItems")
    result = {name: _walk(value, f"/{name}") for name, value in document.items()}
    result["openapi"] = "3.0.3"
    result["info"] = _info(document["info"])
    return result


def _info(info):
    if "summary" in info:
        raise CannotSay("/info/summary")
    info = dict(info)
    if "license" in info:
        licence = dict(info["license"])
        if "identifier" in licence:
            licence["url"] = f"https://spdx.org/licenses/{licence.pop('identifier')}.html"
        info["license"] = licence
    return info


def _walk(node, at):
    """Everything that is no schema is the same in both; schemas are found by the names that lead to them."""
    if isinstance(node, list):
        return [_walk(item, f"{at}/{place}") for place, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    result = {}
    for name, value in node.items():
        here = f"{at}/{name}"
        if name in ("example", "examples"):
            result[name] = value
        elif name == "schema":
            result[name] = _schema(value, here)
        elif name == "schemas" and at == "/components":
            result[name] = {key: _schema(schema, f"{here}/{key}") for key, schema in value.items()}
        else:
            result[name] = _walk(value, here)
    return result


def _schema(schema, at):
    if schema is True:
        return {}
    if schema is False:
        return {"not": {}}
    if "$ref" in schema:
        if len(schema) == 1:
            return dict(schema)
        # Beside a reference 3.0 reads nothing.
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return {"allOf": [{"$ref": schema["$ref"]}], **_schema(rest, at)}
    result = {}
    for name, value in schema.items():
        here = f"{at}/{name}"
        if name in SAME or name.startswith("x-"):
            result[name] = value
        elif name in INNER:
            result[name] = _schema(value, here)
        elif name in LISTS:
            result[name] = [_schema(item, f"{here}/{place}") for place, item in enumerate(value)]
        elif name == "properties":
            result[name] = {key: _schema(item, f"{here}/{key}") for key, item in value.items()}
        elif name == "additionalProperties":
            result[name] = value if isinstance(value, bool) else _schema(value, here)
        elif name in TRANSLATED:
            TRANSLATED[name](result, value, here)
        else:
            raise CannotSay(here)
    if result.get("type") == "array":
        result.setdefault("items", {})
    return result


def _type(result, value, at):
    if isinstance(value, str):
        value = [value]
    types = [name for name in value if name != "null"]
    if len(types) != 1:
        raise CannotSay(at)
    result["type"] = types[0]
    if "null" in value:
        result["nullable"] = True


def _const(result, value, at):
    result["enum"] = [value]


def _examples(result, value, at):
    if value:
        result.setdefault("example", value[0])


def _exclusive(bound):
    def translate(result, value, at):
        if bound in result:
            raise CannotSay(at)
        result[bound] = value
        result["exclusive" + bound.capitalize()] = True

    return translate


def _property_names(result, value, at):
    if value not in ({"type": "string"}, {}, True):
        raise CannotSay(at)


def _content_encoding(result, value, at):
    if value != "base64":
        raise CannotSay(at)
    result["format"] = "byte"


TRANSLATED = {
    "type": _type,
    "const": _const,
    "examples": _examples,
    "exclusiveMinimum": _exclusive("minimum"),
    "exclusiveMaximum": _exclusive("maximum"),
    "propertyNames": _property_names,
    "contentEncoding": _content_encoding,
}


def written(document):
    """As the copy is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main(arguments):
    if len(arguments) != 1:
        sys.exit("usage: downconvert.py openapi.json > openapi-3.0.3.json")
    try:
        with open(arguments[0], encoding="utf-8") as file:
            document = json.load(file)
        sys.stdout.write(written(convert(document)))
    except CannotSay as place:
        sys.exit(f"downconvert: 3.0 has no words for {place}")
    except (OSError, ValueError) as error:
        sys.exit(f"downconvert: {arguments[0]} is no document: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
