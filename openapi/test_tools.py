"""The tools of the contract, each tried on documents made for it: `python -m unittest test_tools` in this folder."""

import contextlib
import copy
import io
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import breaking
import downconvert


def document():
    """A small contract with something of everything."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Small", "version": "1", "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": {
            "/things/{id}": {
                "put": {
                    "operationId": "putThing",
                    "tags": ["things"],
                    "parameters": [
                        {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 9}},
                        {"name": "how", "in": "query", "schema": {"type": "string", "enum": ["a", "b"], "default": "a"}},
                    ],
                    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "responses": {
                        "200": {
                            "description": "",
                            "headers": {"Count": {"schema": {"type": "integer"}}},
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                        },
                        "default": {"$ref": "#/components/responses/Problem"},
                    },
                },
                "get": {"operationId": "getThing", "responses": {"200": {"description": ""}}},
            }
        },
        "components": {
            "schemas": {
                "Thing": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "count": {"type": "integer", "maximum": 10, "exclusiveMinimum": 0},
                        "inner": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
                        "config": {
                            "type": "object",
                            "additionalProperties": {"type": ["string", "null"]},
                            "propertyNames": {"type": "string"},
                        },
                    },
                }
            },
            "responses": {"Problem": {"description": "", "content": {"application/problem+json": {"schema": {}}}}},
        },
    }


def put(new):
    return new["paths"]["/things/{id}"]["put"]


def thing(new):
    return new["components"]["schemas"]["Thing"]


def fields(new):
    return thing(new)["properties"]


class Breaking(unittest.TestCase):
    def lines(self, change):
        new = document()
        change(new)
        return breaking.compare(document(), new)

    def test_what_breaks_is_found(self):
        """A promise: each kind of break is found, at its place."""
        at = "PUT /things/{id}"
        breaks = {
            "/things/{id}: is gone": lambda new: new["paths"].pop("/things/{id}"),
            "GET /things/{id}: is gone": lambda new: new["paths"]["/things/{id}"].pop("get"),
            f'{at}: its operationId was "putThing" and is "setThing"': lambda new: put(new).update(operationId="setThing"),
            f'{at}: its tags was ["things"] and is ["other"]': lambda new: put(new).update(tags=["other"]),
            f"{at} query how: is gone": lambda new: put(new)["parameters"].pop(),
            f"{at} query how: is required now": lambda new: put(new)["parameters"][1].update(required=True),
            f"{at} query more: is new and required": lambda new: put(new)["parameters"].append(
                {"name": "more", "in": "query", "required": True, "schema": {}}
            ),
            f'{at} query how: no longer takes "b"': lambda new: put(new)["parameters"][1]["schema"].update(enum=["a"]),
            f'{at} query how: its default was "a" and is "b"': lambda new: put(new)["parameters"][1]["schema"].update(default="b"),
            f"{at} path id: takes only some values now": lambda new: put(new)["parameters"][0]["schema"].update(enum=["a"]),
            f"{at} path id: its maxLength was 9 and is 8": lambda new: put(new)["parameters"][0]["schema"].update(maxLength=8),
            f"{at} path id: its minLength was not there and is 1": lambda new: put(new)["parameters"][0]["schema"].update(minLength=1),
            f'{at} path id: its pattern was not there and is "a"': lambda new: put(new)["parameters"][0]["schema"].update(pattern="a"),
            f"{at}: a body is required now": lambda new: put(new)["requestBody"].update(required=True),
            f"{at}: takes no body any more": lambda new: put(new).pop("requestBody"),
            f"{at} body: application/json is gone": lambda new: put(new)["requestBody"].update(content={"text/plain": {}}),
            f"{at}: 200 is gone": lambda new: put(new)["responses"].pop("200"),
            f"{at}: default is gone": lambda new: put(new)["responses"].pop("default"),
            f"{at} 200: application/json is gone": lambda new: put(new)["responses"]["200"].pop("content"),
            f"{at} 200: header Count is gone": lambda new: put(new)["responses"]["200"].pop("headers"),
            f'{at} 200 header Count: its type was "integer" and is "string"': lambda new: put(new)["responses"]["200"]["headers"][
                "Count"
            ]["schema"].update(type="string"),
            "Thing (in answers): its field count is gone": lambda new: fields(new).pop("count"),
            "Thing (in requests): its field count is gone": lambda new: fields(new).pop("count"),
            "Thing (in requests): its field count is required now": lambda new: thing(new)["required"].append("count"),
            "Thing (in answers): its field name may be missing now": lambda new: thing(new).pop("required"),
            'Thing (in answers) name: its type was "string" and is ["string", "null"]': lambda new: fields(new)["name"].update(
                type=["string", "null"]
            ),
            'Thing (in requests) name: its type was "string" and is "integer"': lambda new: fields(new)["name"].update(type="integer"),
            "Thing (in requests) count: its maximum was 10 and is 9": lambda new: fields(new)["count"].update(maximum=9),
            "Thing (in answers) count: its maximum was 10 and is 11": lambda new: fields(new)["count"].update(maximum=11),
            "Thing (in answers) count: its exclusiveMinimum was 0 and is not there": lambda new: fields(new)["count"].pop(
                "exclusiveMinimum"
            ),
            'Thing (in requests) config additionalProperties: its type was ["string", "null"] and is "string"': lambda new: fields(new)[
                "config"
            ]["additionalProperties"].update(type="string"),
            "Thing (in answers) config: its additionalProperties was "
            '{"type": ["string", "null"]} and is false': lambda new: fields(new)["config"].update(additionalProperties=False),
            "Thing (in answers): its oneOf has changed": lambda new: thing(new).update(oneOf=[{}]),
            "Thing (in requests): its additionalProperties was not there and is false": lambda new: thing(new).update(
                additionalProperties=False
            ),
            "Thing (in requests): its unevaluatedProperties has changed": lambda new: thing(new).update(unevaluatedProperties=False),
            "Thing (in requests) config: its propertyNames has changed": lambda new: fields(new)["config"].pop("propertyNames"),
            f'{at} query how: its style was "form" and is "pipeDelimited"': lambda new: put(new)["parameters"][1].update(
                style="pipeDelimited"
            ),
            f"{at} query how: its explode was true and is false": lambda new: put(new)["parameters"][1].update(explode=False),
            f"{at} query how: its allowReserved was false and is true": lambda new: put(new)["parameters"][1].update(allowReserved=True),
            f"{at} query how: is written in another way": lambda new: put(new)["parameters"][1].update(
                content={"application/json": {"schema": {}}}
            ),
            f'{at}: a call without a name is no longer enough: it asks for [{{"token": []}}]': lambda new: put(new).update(
                security=[{"token": []}]
            ),
            'GET /things/{id}: a call without a name is no longer enough: it asks for [{"token": []}]': lambda new: new.update(
                security=[{"token": []}]
            ),
            'the document: the server "/" is gone': lambda new: new.update(servers=[{"url": "https://example.org"}]),
            '/things/{id}: the server "/" is gone': lambda new: new["paths"]["/things/{id}"].update(servers=[{"url": "/2"}]),
            f'{at}: the server "/" is gone': lambda new: put(new).update(servers=[{"url": "/2"}]),
            "components schemas Thing: is gone": lambda new: new["components"]["schemas"].pop("Thing"),
            "#/components/schemas/Thing: leads nowhere in the newer document": lambda new: new["components"]["schemas"].pop("Thing"),
            "components responses Problem: is gone": lambda new: new["components"].pop("responses"),
        }
        for line, change in breaks.items():
            with self.subTest(line):
                self.assertIn(line, self.lines(change))

    def test_ways_in_are_compared(self):
        """A promise: who could call still can: another way in beside the old one is no break, more scopes for it are."""

        def secured(ways):
            made = document()
            put(made)["security"] = ways
            return made

        at = "PUT /things/{id}"
        for old, new, found in [
            ([], [{}], []),
            ([{"token": ["read"]}], [{"token": ["read"]}, {"key": []}], []),
            ([{"token": ["read"]}], [{"token": []}], []),
            ([{"token": ["read"]}], [], []),
            ([{"token": ["read"]}], [{}, {"key": []}], []),
            ([{}, {"token": []}], [{"token": []}], [f'{at}: a call without a name is no longer enough: it asks for [{{"token": []}}]']),
            (
                [{"token": ["read"]}],
                [{"token": ["read", "write"]}],
                [f'{at}: {{"token": ["read"]}} is no longer enough: it asks for [{{"token": ["read", "write"]}}]'],
            ),
            ([{"token": []}], [{"key": []}], [f'{at}: {{"token": []}} is no longer enough: it asks for [{{"key": []}}]']),
        ]:
            with self.subTest(f"{old} {new}"):
                self.assertEqual(breaking.compare(secured(old), secured(new)), found)

    def test_every_rule_is_seen_from_the_command_line(self):
        """A promise: the script itself ends with a failure for each kind of break, not only its function, and never with a traceback."""
        changes = [
            lambda new: new["components"]["schemas"].pop("Thing"),
            lambda new: put(new).update(security=[{"token": []}]),
            lambda new: new.update(servers=[{"url": "/2"}]),
            lambda new: put(new)["parameters"][1].update(explode=False),
            lambda new: thing(new).update(additionalProperties=False),
        ]
        for place, change in enumerate(changes):
            with self.subTest(place), tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                new = document()
                change(new)
                (folder / "0.1.0.json").write_text(json.dumps(document()))
                (folder / "new").write_text(json.dumps(new))
                script = str(Path(breaking.__file__))
                ran = subprocess.run([sys.executable, script, str(folder / "new"), name], capture_output=True, text=True, check=False)
                self.assertEqual((ran.returncode, ran.stderr), (1, ""))
                self.assertIn("breaks since 0.1.0", ran.stdout)

    def test_a_renamed_component_is_found(self):
        """A promise: a component's name is a class in somebody's program."""

        def rename(new):
            new["components"]["schemas"]["Item"] = thing(new)
            put(new)["requestBody"]["content"]["application/json"]["schema"] = {"$ref": "#/components/schemas/Item"}

        said = 'its schema was called "#/components/schemas/Thing" and is called "#/components/schemas/Item"'
        self.assertIn(f"PUT /things/{{id}} body: {said}", self.lines(rename))

    def test_what_may_grow_is_let_pass(self):
        """A promise: what no client can notice is no break."""
        growths = [
            lambda new: None,
            lambda new: new["paths"].update({"/more": {"get": {"operationId": "getMore", "responses": {}}}}),
            lambda new: put(new)["parameters"].append({"name": "more", "in": "query", "schema": {"type": "string"}}),
            lambda new: put(new)["parameters"][1]["schema"]["enum"].append("c"),
            lambda new: put(new)["parameters"][0]["schema"].update(maxLength=10),
            lambda new: put(new)["responses"].update({"202": {"description": ""}}),
            lambda new: put(new)["responses"]["200"]["headers"].update(More={"schema": {"type": "string"}}),
            lambda new: fields(new).update(more={"type": "string"}),
            lambda new: new.update(servers=[{"url": "/"}, {"url": "https://example.org"}]),
            lambda new: put(new)["parameters"][1].update(style="form", explode=True),
            lambda new: new["components"]["schemas"].update(More={"type": "string"}),
            lambda new: put(new).update(summary="Other words", description="And more of them"),
        ]
        for place, change in enumerate(growths):
            with self.subTest(place):
                self.assertEqual(self.lines(change), [])

    def test_a_break_on_purpose_is_written_down(self):
        """A promise: what is accepted is silent as long as it is true."""
        new = document()
        new["paths"]["/things/{id}"].pop("get")
        line = "GET /things/{id}: is gone"
        self.assertEqual(breaking.judge(document(), new, []), [line])
        self.assertEqual(breaking.judge(document(), new, [line]), [])
        self.assertEqual(breaking.judge(document(), document(), [line]), [f"{line}: accepted, but no break"])

    def test_the_newest_release_is_compared_with(self):
        """A promise: 0.10.0 is newer than 0.9.0, other files are none, and a break ends with a failure."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self.assertIsNone(breaking.newest(folder))
            for file in ("0.9.0.json", "0.10.0.json", "next.json", "README.md"):
                (folder / file).write_text(json.dumps(document()))
            self.assertEqual(breaking.newest(folder).name, "0.10.0.json")
            new = document()
            del fields(new)["count"]
            (folder / "new").write_text(json.dumps(new))
            said = io.StringIO()
            with self.assertRaises(SystemExit) as end, contextlib.redirect_stdout(said):
                breaking.main([str(folder / "new"), name])
            self.assertEqual(end.exception.code, 1)
            self.assertIn("its field count is gone", said.getvalue())


class Downconvert(unittest.TestCase):
    def test_it_says_the_same_in_other_words(self):
        """A promise: what 3.0 can say it says, and the document given stays as it is."""
        given = document()
        fields(given)["kind"] = {"const": "thing", "examples": ["thing", "other"]}
        fields(given)["data"] = {"type": "string", "contentEncoding": "base64"}
        fields(given)["other"] = {"$ref": "#/components/schemas/Thing", "description": "Another"}
        before = copy.deepcopy(given)
        made = downconvert.convert(given)
        self.assertEqual(given, before)
        self.assertEqual(made["openapi"], "3.0.3")
        self.assertEqual(made["info"]["license"], {"name": "Apache-2.0", "url": "https://spdx.org/licenses/Apache-2.0.html"})
        self.assertEqual(made["paths"], given["paths"])
        wanted = {
            "count": {"type": "integer", "maximum": 10, "minimum": 0, "exclusiveMinimum": True},
            "config": {"type": "object", "additionalProperties": {"type": "string", "nullable": True}},
            "kind": {"enum": ["thing"], "example": "thing"},
            "data": {"type": "string", "format": "byte"},
            "other": {"allOf": [{"$ref": "#/components/schemas/Thing"}], "description": "Another"},
        }
        for name, schema in wanted.items():
            self.assertEqual(fields(made)[name], schema)

    def test_examples_are_data(self):
        """A promise: what looks like a schema in an example is left alone."""
        given = document()
        thing(given)["example"] = {"schema": {"type": ["string", "null"]}}
        put(given)["requestBody"]["content"]["application/json"]["example"] = {"schema": {"const": 1}}
        made = downconvert.convert(given)
        self.assertEqual(thing(made)["example"], {"schema": {"type": ["string", "null"]}})
        self.assertEqual(put(made)["requestBody"], put(given)["requestBody"])

    def test_what_it_cannot_say_it_refuses(self):
        """A promise: nothing is lost unnoticed."""
        refused = {
            "/components/schemas/Thing/type": lambda new: thing(new).update(type=["string", "integer"]),
            "/components/schemas/Thing/prefixItems": lambda new: thing(new).update(prefixItems=[]),
            "/components/schemas/Thing/properties/name/if": lambda new: fields(new)["name"].update({"if": {}}),
            "/components/schemas/Thing/propertyNames": lambda new: thing(new).update(propertyNames={"pattern": "a"}),
            "/components/schemas/Thing/properties/count/exclusiveMinimum": lambda new: fields(new).update(
                count={"minimum": 1, "exclusiveMinimum": 0}
            ),
            "/webhooks": lambda new: new.update(webhooks={}),
            "/info/summary": lambda new: new["info"].update(summary="s"),
            "/openapi: this is no 3.1 document": lambda new: new.update(openapi="3.0.3"),
        }
        for place, change in refused.items():
            given = document()
            change(given)
            with self.subTest(place), self.assertRaises(downconvert.CannotSay) as refusal:
                downconvert.convert(given)
            self.assertEqual(str(refusal.exception), place)


if __name__ == "__main__":
    unittest.main()
