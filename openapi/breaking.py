"""What a client of the last release would notice: breaking.py openapi.json [released]

Compares a document with the newest one in the folder `released` (`0.1.0.json`, …) and prints, a line each, what a program written or
generated against the older one can break on. Ends with 1 if there is anything. A break on purpose is written down, as the very line, in
`released/VERSION.accepted.txt`, where VERSION is that of the older one; a line there that is no longer true is a complaint, too.

What may grow: operations, optional parameters and fields of requests, fields of answers, statuses, headers, values of enums in answers.
"""

import json
import re
import sys
from pathlib import Path

METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
# Bounds by which side they lie on: a request breaks when it may say less than before, an answer when it may say more.
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
EQUAL = ("format", "pattern", "multipleOf", "const", "uniqueItems")
# Any change of one is for a person to judge: what it means cannot be seen without the other keywords beside it.
JUDGED = (
    "oneOf", "anyOf", "allOf", "not", "if", "then", "else", "prefixItems", "contains", "patternProperties", "propertyNames",
    "unevaluatedProperties", "unevaluatedItems", "dependentRequired", "dependentSchemas", "discriminator", "contentEncoding",
)  # fmt: skip
# How a parameter's value is written where the document does not say.
STYLES = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}


class Comparison:
    """Two documents, and what broke between them."""

    def __init__(self, old, new):
        self.old, self.new = old, new
        self.found = []
        self.seen = set()

    def resolved(self, document, node):
        """What a reference, or a chain of them, leads to; one that leads nowhere is a complaint, and as good as nothing."""
        node = node or {}
        for _ in range(16):
            if "$ref" not in node:
                return node
            target = document
            for part in node["$ref"].removeprefix("#/").split("/"):
                name = part.replace("~1", "/").replace("~0", "~")
                target = target.get(name) if isinstance(target, dict) else None
            if not isinstance(target, dict):
                self.say(node["$ref"], f"leads nowhere in the {'older' if document is self.old else 'newer'} document")
                return {}
            node = target
        raise ValueError(f"{node['$ref']} leads in a circle")

    def say(self, at, what):
        line = f"{at}: {what}"
        if line not in self.found:
            self.found.append(line)

    def run(self):
        self.servers("the document", self.old.get("servers"), self.new.get("servers"))
        for kind, components in self.old.get("components", {}).items():
            for name in components:
                if name not in self.new.get("components", {}).get(kind, {}):
                    self.say(f"components {kind} {name}", "is gone")
        paths = self.new.get("paths", {})
        for path, item in self.old.get("paths", {}).items():
            if path not in paths:
                self.say(path, "is gone")
                continue
            self.servers(path, item.get("servers"), paths[path].get("servers"))
            for method in METHODS:
                if method not in item:
                    continue
                at = f"{method.upper()} {path}"
                if method not in paths[path]:
                    self.say(at, "is gone")
                else:
                    self.operation(at, item, item[method], paths[path], paths[path][method])
        return self.found

    def operation(self, at, old_item, old, new_item, new):
        for name in ("operationId", "tags"):
            if old.get(name) != new.get(name):
                self.say(at, f"its {name} was {said(old.get(name))} and is {said(new.get(name))}")
        self.servers(at, old.get("servers"), new.get("servers"))
        self.security(at, old.get("security", self.old.get("security")), new.get("security", self.new.get("security")))
        self.parameters(at, self.parameters_of(self.old, old_item, old), self.parameters_of(self.new, new_item, new))
        self.request(at, self.resolved(self.old, old.get("requestBody")), self.resolved(self.new, new.get("requestBody")))
        for status, response in old.get("responses", {}).items():
            if status not in new.get("responses", {}):
                self.say(at, f"{status} is gone")
                continue
            old_response, new_response = self.resolved(self.old, response), self.resolved(self.new, new["responses"][status])
            self.bodies(f"{at} {status}", old_response, new_response, is_request=False)
            headers = new_response.get("headers", {})
            for name, header in old_response.get("headers", {}).items():
                if name not in headers:
                    self.say(f"{at} {status}", f"header {name} is gone")
                    continue
                schemas = [self.resolved(*it).get("schema", {}) for it in ((self.old, header), (self.new, headers[name]))]
                self.schema(f"{at} {status} header {name}", *schemas, is_request=False)

    def servers(self, at, old, new):
        """Where calls go; more places hurt nobody, and where none is named it is where the document comes from."""
        urls = [[it.get("url") for it in servers or [{"url": "/"}]] for servers in (old, new)]
        for url in urls[0]:
            if url not in urls[1]:
                self.say(at, f"the server {said(url)} is gone")

    def security(self, at, old, new):
        """Each way in that was enough has to be enough still: one of the new ways asks for no more than it. No way at all is no question."""
        before, after = old or [{}], new or [{}]
        for way in before:
            is_enough = any(all(name in way and set(scopes) <= set(way[name]) for name, scopes in other.items()) for other in after)
            if not is_enough:
                self.say(at, f"{said(way) if way else 'a call without a name'} is no longer enough: it asks for {said(after)}")

    def parameters_of(self, document, item, operation):
        every = [self.resolved(document, it) for it in (*item.get("parameters", ()), *operation.get("parameters", ()))]
        # Names of headers are alike in any case.
        return {(it["in"], it["name"].lower() if it["in"] == "header" else it["name"]): it for it in every}

    def parameters(self, at, old, new):
        for (place, name), parameter in old.items():
            here = f"{at} {place} {name}"
            if (place, name) not in new:
                self.say(here, "is gone")
                continue
            other = new[place, name]
            if other.get("required", False) and not parameter.get("required", False):
                self.say(here, "is required now")
            for what, (before, after) in {
                "style": (style(parameter), style(other)),
                "explode": (parameter.get("explode", style(parameter) == "form"), other.get("explode", style(other) == "form")),
                "allowReserved": (parameter.get("allowReserved", False), other.get("allowReserved", False)),
            }.items():
                if before != after:
                    self.say(here, f"its {what} was {said(before)} and is {said(after)}")
            self.content(here, parameter, other)
            self.schema(here, parameter.get("schema", {}), other.get("schema", {}), is_request=True)
        for (place, name), parameter in new.items():
            if (place, name) not in old and parameter.get("required", False):
                self.say(f"{at} {place} {name}", "is new and required")

    def content(self, at, old, new):
        """Of a parameter that is written as a media type, not by a style."""
        if bool(old.get("content")) != bool(new.get("content")):
            self.say(at, "is written in another way")
        self.bodies(at, old, new, is_request=True)

    def request(self, at, old, new):
        if new.get("required", False) and not old.get("required", False):
            self.say(at, "a body is required now")
        if old and not new:
            self.say(at, "takes no body any more")
        self.bodies(f"{at} body", old, new, is_request=True)

    def bodies(self, at, old, new, is_request):
        for media_type, media in old.get("content", {}).items():
            if media_type not in new.get("content", {}):
                self.say(at, f"{media_type} is gone")
            else:
                self.schema(at, media.get("schema", {}), new["content"][media_type].get("schema", {}), is_request)

    def schema(self, at, old, new, is_request):
        names = old.get("$ref"), new.get("$ref")
        if names[0] != names[1]:
            self.say(at, f"its schema was called {said(names[0])} and is called {said(names[1])}")
        elif names[0]:
            # A component is compared once in each direction, under its own name.
            if (names[0], is_request) in self.seen:
                return
            self.seen.add((names[0], is_request))
            at = f"{names[0].rsplit('/', 1)[1]} (in {'requests' if is_request else 'answers'})"
        old, new = self.resolved(self.old, old), self.resolved(self.new, new)
        self.types(at, old, new, is_request)
        self.values(at, old, new, is_request)
        self.fields(at, old, new, is_request)
        for name in ("items", "additionalProperties"):
            inner = old.get(name), new.get(name)
            if all(isinstance(it, dict) for it in inner):
                self.schema(f"{at} {name}", *inner, is_request)
            elif inner[0] != inner[1]:
                self.say(at, f"its {name} was {said(inner[0])} and is {said(inner[1])}")
        for name in JUDGED:
            if old.get(name) != new.get(name):
                self.say(at, f"its {name} has changed")

    def types(self, at, old, new, is_request):
        before, after = types_of(old), types_of(new)
        wide, narrow = (after, before) if is_request else (before, after)
        # `integer` lies within `number`, and no type at all is every type.
        if wide is None or (narrow is not None and all(it in wide or (it == "integer" and "number" in wide) for it in narrow)):
            return
        self.say(at, f"its type was {said(old.get('type'))} and is {said(new.get('type'))}")

    def values(self, at, old, new, is_request):
        for name in (*UPPER, *LOWER):
            before, after = old.get(name), new.get(name)
            if before == after:
                continue
            is_tighter = before is None or (after is not None and (after < before if name in UPPER else after > before))
            if is_tighter == is_request:
                self.say(at, f"its {name} was {said(before)} and is {said(after)}")
        for name in EQUAL:
            if old.get(name) == new.get(name):
                continue
            # A rule that is gone from a request, or new in an answer, hurts nobody.
            if (is_request and name not in new) or (not is_request and name not in old):
                continue
            self.say(at, f"its {name} was {said(old.get(name))} and is {said(new.get(name))}")
        if old.get("default") != new.get("default") and is_request:
            self.say(at, f"its default was {said(old.get('default'))} and is {said(new.get('default'))}")
        if is_request and "enum" in new:
            if "enum" not in old:
                self.say(at, "takes only some values now")
            for value in old.get("enum", ()):
                if value not in new["enum"]:
                    self.say(at, f"no longer takes {said(value)}")
        # In answers enums may grow: clients are told to expect unknown values.

    def fields(self, at, old, new, is_request):
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, field in before.items():
            if name not in after:
                self.say(at, f"its field {name} is gone")
            else:
                self.schema(f"{at} {name}", field, after[name], is_request)
        required = set(old.get("required", ())), set(new.get("required", ()))
        if is_request:
            for name in sorted(required[1] - required[0]):
                self.say(at, f"its field {name} is required now")
        else:
            for name in sorted(required[0] - required[1]):
                if name in after:
                    self.say(at, f"its field {name} may be missing now")


def said(value):
    return "not there" if value is None else json.dumps(value, ensure_ascii=False)


def types_of(schema):
    value = schema.get("type")
    if value is None:
        return None
    return {value} if isinstance(value, str) else set(value)


def style(parameter):
    return parameter.get("style", STYLES.get(parameter.get("in")))


def compare(old, new):
    """The breaks, a line each."""
    return Comparison(old, new).run()


def newest(folder):
    """The document of the latest release; None before the first."""
    versions = [path for path in Path(folder).glob("*.json") if re.fullmatch(r"\d+\.\d+\.\d+", path.stem)]
    return max(versions, key=lambda path: tuple(map(int, path.stem.split("."))), default=None)


def judge(old, new, accepted):
    """Breaks that nobody has accepted, and acceptances of what is no break."""
    found = compare(old, new)
    stale = [f"{line}: accepted, but no break" for line in accepted if line not in found]
    return [line for line in found if line not in accepted] + stale


def main(arguments):
    if len(arguments) not in (1, 2):
        sys.exit("usage: breaking.py openapi.json [folder of released documents]")
    folder = Path(arguments[1]) if len(arguments) == 2 else Path(__file__).parent / "released"
    if not folder.is_dir():
        sys.exit(f"breaking: there is no folder {folder}")
    released = newest(folder)
    if released is None:
        print("no release yet: nothing to break")
        return
    notes = released.with_name(f"{released.stem}.accepted.txt")
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else []
    accepted = [line for line in lines if line.strip() and not line.startswith("#")]
    try:
        documents = [json.loads(Path(path).read_text(encoding="utf-8")) for path in (released, arguments[0])]
        complaints = judge(*documents, accepted)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"breaking: {released} and {arguments[0]} cannot be compared: {error!r}")
    for line in complaints:
        print(line)
    print(f"{len(complaints)} breaks since {released.stem}")
    if complaints:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
