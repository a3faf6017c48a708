"""What schemathesis cannot know of us: how our batches are sent and read, and what would only cost time or prove nothing."""

import schemathesis

BATCHES = "application/vnd.tidegate.batches"
# Making thousands of partitions takes a disk seconds, and shows no more than making a few.
PARTITIONS_MAX = 8


@schemathesis.serializer(BATCHES)
def write_batches(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.deserializer(BATCHES)
def read_batches(ctx, response):
    return response.content.decode("latin-1")


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if isinstance(body, dict) and type(body.get("partitions")) is int and PARTITIONS_MAX < body["partitions"] <= 10_000:
        case.body = {**body, "partitions": PARTITIONS_MAX}
    # A write that may take no time answers 504, and truly so; here every 5xx is to be a fault.
    if case.query and "timeout_ms" in case.query and str(case.query["timeout_ms"]).isdigit():
        case.query["timeout_ms"] = max(30_000, int(case.query["timeout_ms"]))
    # It follows links from answers to headers, and gives them the number that the answer has: no header can hold one.
    for name, value in list((case.headers or {}).items()):
        if not isinstance(value, (str, bytes)):
            case.headers[name] = str(value)
