#!/usr/bin/env python3
"""Writes numbered records over a bad network until each is acknowledged, and reports what it was told.

Every call is sent again, unchanged, until it is answered with 200: after timeouts, broken and refused connections, 503, 504, and `sequence-gap` for
what went out beside its predecessor. That this is safe is what the server promises. Some that
were acknowledged long since are sent once more, and must be answered as before; some keys come with another body, which must be refused.

    --mode key        POST …/records with an Idempotency-Key; a writer sends one request after the other
    --mode sequence   POST …/partitions/{p}/records with Producer-Id, -Epoch and -Seq; a writer has up to three requests under way, but for the first
                      of an epoch; names serve two partitions each, some epochs rise on the way, some sequences begin shortly before they wrap
    --no-protection   the same without those headers: records must come out twice (a proof that the checker sees it)

A record's value is {"w": writer, "n": number}. The report (--report FILE, JSON) has for each writer how many numbers were sent, and what was
acknowledged where; a checker that reads the topic compares (tests/src/ledger.rs). Python 3.11, standard library only; --form batches takes kafka-python.

Exit: 0 everything is acknowledged, 1 an answer contradicts the contract (the report and the last line say which), 3 the time was over.
"""

import argparse
import collections
import copy
import http.client
import json
import random
import sys
import threading
import time
import urllib.parse

IN_FLIGHT = 3
SEQUENCES = 2**31
# Every second epoch-raising writer begins a new epoch after so many requests.
EPOCH_REQUESTS = 150
# One in so many streams of lines is longer than the server's chunks of 1,000 lines.
LONG_STREAMS = 25
ENDLESS = 2**62
# One in so many acknowledged requests is sent again long after (and, with a key, once with another body), out of the last so many.
ECHOES = 30
ECHO_MEMORY = 100
NEVER_SENT = 10**12


class Contradiction(Exception):
    """An answer that the contract does not allow."""


class Run:
    """What all writers share: the options, the clock, the counts."""

    def __init__(self, options):
        self.options = options
        url = urllib.parse.urlsplit(options.url)
        self.host, self.port = url.hostname, url.port
        self.topic_path = f"/v1/topics/{options.topic}"
        self.deadline = time.monotonic() + options.seconds
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.contradiction = None
        self.counts = {}

    def count(self, *names):
        with self.lock:
            for name in names:
                self.counts[name] = self.counts.get(name, 0) + 1

    def contradict(self, line):
        with self.lock:
            self.contradiction = self.contradiction or line
        self.stop.set()

    def is_over(self):
        return self.stop.is_set() or time.monotonic() > self.deadline


class Connection:
    """A connection that is made anew whenever it has broken."""

    def __init__(self, run, seed):
        self.run = run
        self.random = random.Random(seed)
        self.http = None

    def post(self, path, headers, body):
        """The answer: status, headers, body as text. Raises what the network does."""
        if self.http is None:
            self.http = http.client.HTTPConnection(self.run.host, self.run.port, timeout=self.run.options.timeout)
        try:
            self.http.request("POST", path, body, headers)
            answer = self.http.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.http is not None:
            self.http.close()
            self.http = None

    def send(self, request, settles=(200,)):
        """Sends until an answer settles it: its status, headers and body, or None when the time is over."""
        tries = 0
        while not self.run.is_over():
            is_oldest = request.is_oldest()
            self.run.count("tries", *(["resent"] if tries else []))
            tries += 1
            try:
                status, headers, text = self.post(request.path, request.headers, request.body)
            except ConnectionRefusedError:
                self.run.count("refused")
            except TimeoutError:
                self.run.count("timeouts")
            except (OSError, http.client.HTTPException):
                self.run.count("broken")
            else:
                if status in settles:
                    return status, headers, json.loads(text)
                if not request.may_resend(status, headers, text, is_oldest):
                    raise Contradiction(f"{request.name}, try {tries}: {status} {text}")
                self.run.count(str(status))
            time.sleep(self.random.uniform(0.001, min(0.005 * 2**tries, 0.1)))
        return None


class Request:
    """One call: its records are numbers [first, first + count) of its writer."""

    def __init__(self, writer, first, count, path, headers, body):
        self.writer, self.first, self.count = writer, first, count
        self.path, self.headers, self.body = path, headers, body
        self.name = f"writer {writer.number}, records {first}..{first + count - 1}, POST {path} {headers}"

    def is_oldest(self):
        return True

    def may_resend(self, status, headers, text, is_oldest):
        del headers, text, is_oldest
        return status in (503, 504)


class SequencedRequest(Request):
    """A call of a writer with several under way; `index` is its place among them."""

    def is_oldest(self):
        return self.writer.oldest == self.index

    def may_resend(self, status, headers, text, is_oldest):
        if status == 409 and json.loads(text).get("code") == "sequence-gap":
            # Everything before it was acknowledged when it was sent: the server must not miss anything.
            return not is_oldest
        return super().may_resend(status, headers, text, is_oldest)


def in_order(answer):
    """An answer whose places stand in order."""
    return answer | {"last": sorted(answer.get("last", []), key=lambda last: last["partition"])}


def record_json(writer, number, more=None):
    return {"value": {"w": writer, "n": number, "pad": "x" * (number * 7 % 61)}, **(more or {})}


class Writer:
    """Numbers, in order. It knows what has been sent, and what was said of it."""

    def __init__(self, run, number, requests):
        self.run, self.number, self.requests = run, number, requests
        self.random = random.Random(f"{run.options.seed}/{number}")
        self.sent = 0
        self.places = []
        self.lasts = []
        self.memory = collections.deque(maxlen=ECHO_MEMORY)

    def take_numbers(self, count):
        first = self.sent
        self.sent += count
        return first, range(first, first + count)

    def keep_results(self, request, answer):
        """What the answer tells: a place for each record, none if it is an older duplicate's."""
        results = answer.get("results")
        if results is None or len(results) != request.count:
            raise Contradiction(f"{request.name}: {request.count} records, and the answer is {answer}")
        if any("offset" not in result for result in results):
            self.run.count("untold")
        for number, result in zip(range(request.first, request.first + request.count), results, strict=True):
            self.places.append([self.number, number, result.get("partition"), result.get("offset")])


class KeyWriter(Writer):
    """One request after the other, each with a key of its own."""

    def next_request(self, index):
        options, draw = self.run.options, self.random
        headers = {} if options.no_protection else {"Idempotency-Key": f"{options.seed}/{options.form}/{self.number}/{index}"}
        count = 1 if options.form == "raw" else draw.randint(1, 5)
        if options.form == "ndjson" and draw.randrange(LONG_STREAMS) == 0:
            count = draw.randint(999, 2_500)
        first, numbers = self.take_numbers(count)
        path, content_type, body = getattr(self, f"as_{options.form}")(numbers, headers)
        headers["Content-Type"] = content_type
        return Request(self, first, count, self.run.topic_path + path, headers, body)

    def as_json(self, numbers, _headers):
        in_partition = self.random.random() < 0.25
        records = [record_json(self.number, number, self.whereto(in_partition)) for number in numbers]
        return (self.some_partition() if in_partition else "") + "/records", "application/json", json.dumps({"records": records}).encode()

    def as_ndjson(self, numbers, _headers):
        lines = (json.dumps(record_json(self.number, number, self.whereto(False))) + "\n" for number in numbers)
        return "/records/stream", "application/x-ndjson", "".join(lines).encode()

    def as_raw(self, numbers, headers):
        if self.random.random() < 0.5:
            headers["Record-Key"] = f"k{self.random.randrange(1_000)}"
        return "/raw", "application/json", json.dumps(record_json(self.number, numbers[0])["value"]).encode()

    def as_batches(self, numbers, _headers):
        """Kafka's own bytes: the first record in a batch of its own, the others in another."""
        from kafka.record import MemoryRecordsBuilder

        body = b""
        for part in (numbers[:1], numbers[1:]):
            builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1 << 20)
            for number in part:
                value = json.dumps(record_json(self.number, number)["value"]).encode()
                builder.append(timestamp=int(time.time() * 1_000), key=None, value=value, headers=[])
            if part:
                builder.close()
                body += builder.buffer()
        return f"{self.some_partition()}/batches", "application/vnd.tidegate.batches", body

    def some_partition(self):
        return f"/partitions/{self.random.randrange(self.run.options.partitions)}"

    def whereto(self, in_partition):
        """With a key, without one, or straight to a partition."""
        which = self.random.random()
        if which < 0.5:
            return {}
        if which < 0.9 or in_partition:
            return {"key": f"k{self.random.randrange(1_000)}"}
        return {"partition": self.random.randrange(self.run.options.partitions)}

    def work(self):
        connection = Connection(self.run, f"{self.run.options.seed}/{self.number}/connection")
        for index in range(self.requests):
            request = self.next_request(index)
            heard = connection.send(request)
            if heard is None:
                return
            _, headers, answer = heard
            if not self.run.options.no_protection:
                self.check(request, headers)
            if self.run.options.form == "ndjson":
                self.keep_lines(request, answer)
            elif self.run.options.form == "batches":
                self.keep_batches(request, answer)
            else:
                self.keep_results(request, answer)
            self.run.count("acknowledged")
            self.memory.append((request, answer))
            if not self.run.options.no_protection and self.random.randrange(ECHOES) == 0:
                self.echo(connection, *self.random.choice(self.memory))
        connection.close()

    def echo(self, connection, request, answer):
        """The same again is answered as before, another body under the key is refused."""
        heard = connection.send(request)
        if heard is None:
            return
        _, headers, again = heard
        if headers.get("Idempotency-Replayed") != "true" or in_order(again) != in_order(answer):
            raise Contradiction(f"{request.name}: first {answer}, later {again}, {headers.items()}")
        other = copy.copy(request)
        # The same with a number that is never sent.
        other.body = request.body.replace(b'"n": %d,' % request.first, b'"n": %d,' % NEVER_SENT, 1)
        if self.run.options.form == "batches":
            _, _, other.body = self.as_batches(range(NEVER_SENT, NEVER_SENT + request.count), {})
        heard = connection.send(other, settles=(200, 422))
        if heard is not None and (heard[0] != 422 or heard[2]["code"] != "idempotency-key-reused"):
            raise Contradiction(f"{request.name}: with another body it is answered {heard[0]} {heard[2]}")
        self.run.count("echoes")

    def check(self, request, headers):
        if not headers.get("Idempotency-Window", "").isdigit():
            raise Contradiction(f"{request.name}: an answer without Idempotency-Window: {headers.items()}")
        if headers.get("Idempotency-Replayed") == "true":
            self.run.count("replayed")

    def keep_batches(self, request, answer):
        """A partition's answer tells the first place and the last."""
        if answer.get("last_offset") != answer.get("base_offset") + request.count - 1:
            raise Contradiction(f"{request.name}: {request.count} records, and the answer is {answer}")
        partition = int(request.path.split("/")[-2])
        for at in range(request.count):
            self.places.append([self.number, request.first + at, partition, answer["base_offset"] + at])

    def keep_lines(self, request, answer):
        """A stream's answer tells the last place in each partition."""
        if answer.get("committed_records") != request.count:
            raise Contradiction(f"{request.name}: {request.count} lines, and the answer is {answer}")
        for number in range(request.first, request.first + request.count):
            self.places.append([self.number, number, None, None])
        for last in answer["last"]:
            self.lasts.append([self.number, request.first, request.count, last["partition"], last["offset"]])


class SequenceWriter(Writer):
    """A named producer in one partition, with several requests under way on connections of their own."""

    def __init__(self, run, number, requests):
        super().__init__(run, number, requests)
        # Two writers of one name, in two partitions: their sequences know nothing of each other.
        self.name = f"producer-{run.options.seed}-{number // 2}"
        self.partition = number % run.options.partitions
        self.epoch = 0
        self.sequence = SEQUENCES - 40 if number % 4 == 1 else 0
        self.epoch_requests = EPOCH_REQUESTS if number % 4 == 3 else ENDLESS
        # The highest epoch that the server has acknowledged something of.
        self.known_epoch = 0
        self.next = 0
        self.oldest = 0
        self.settled = set()
        self.changed = threading.Condition()

    def is_first(self, index):
        return index % self.epoch_requests == 0

    def may_take(self):
        """An epoch's first request goes alone; the others beside two more."""
        ahead = self.next - self.oldest
        return ahead == 0 or (ahead < IN_FLIGHT and not self.is_first(self.next) and not self.is_first(self.oldest))

    def take(self):
        """The next request, when it may go out; None if there is none."""
        with self.changed:
            while not self.run.is_over() and self.next < self.requests:
                if self.may_take():
                    return self.next_request()
                self.changed.wait(0.2)
            return None

    def next_request(self):
        index, count = self.next, self.random.randint(1, 5)
        self.next += 1
        if index > 0 and self.is_first(index):
            self.epoch, self.sequence = self.epoch + 1, 0
        headers = {"Content-Type": "application/json"}
        if not self.run.options.no_protection:
            headers |= {"Producer-Id": self.name, "Producer-Epoch": str(self.epoch), "Producer-Seq": str(self.sequence)}
        self.sequence = (self.sequence + count) % SEQUENCES
        first, numbers = self.take_numbers(count)
        key = {"key": f"k{index % 10}"} if self.random.random() < 0.5 else {}
        body = json.dumps({"records": [record_json(self.number, number, key) for number in numbers]}).encode()
        request = SequencedRequest(self, first, count, f"{self.run.topic_path}/partitions/{self.partition}/records", headers, body)
        request.index, request.next_sequence, request.epoch = index, self.sequence, self.epoch
        return request

    def work(self, connection_number=0):
        connection = Connection(self.run, f"{self.run.options.seed}/{self.number}/{connection_number}")
        while (request := self.take()) is not None:
            heard = connection.send(request)
            if heard is None:
                return
            _, headers, answer = heard
            if not self.run.options.no_protection:
                self.check(request, headers, answer)
            with self.changed:
                self.known_epoch = max(self.known_epoch, request.epoch)
                self.memory.append((request, answer))
                echo = self.random.choice(self.memory) if self.random.randrange(ECHOES) == 0 else None
                self.keep_results(request, answer)
                self.settled.add(request.index)
                while self.oldest in self.settled:
                    self.settled.remove(self.oldest)
                    self.oldest += 1
                self.changed.notify_all()
            self.run.count("acknowledged")
            if echo and not self.run.options.no_protection:
                self.echo(connection, *echo)
        connection.close()

    def echo(self, connection, request, answer):
        """The same again is a duplicate, at the same place if that is still known; of an epoch that is over, it is refused."""
        must_be_fenced = request.epoch < self.known_epoch
        heard = connection.send(request, settles=(200, 409))
        if heard is None:
            return
        status, headers, again = heard
        if status == 409:
            is_good = again["code"] == "producer-fenced" and request.epoch < self.epoch and int(headers["Producer-Epoch"]) <= self.epoch
        else:
            is_same = all("offset" not in result for result in again["results"]) or again["results"] == answer["results"]
            is_good = not must_be_fenced and headers.get("Producer-Duplicate") == "true" and is_same
        if not is_good:
            raise Contradiction(f"{request.name}: first {answer}, later {status} {again}, {headers.items()}")
        self.run.count("echoes", *(["fenced"] if status == 409 else []))

    def check(self, request, headers, answer):
        is_duplicate = headers.get("Producer-Duplicate") == "true"
        if is_duplicate:
            self.run.count("replayed")
        elif headers.get("Producer-Next-Seq") != str(request.next_sequence):
            raise Contradiction(f"{request.name}: Producer-Next-Seq is {headers.get('Producer-Next-Seq')}, not {request.next_sequence}")
        offsets = [result.get("offset") for result in answer.get("results", [])]
        if None in offsets and not is_duplicate:
            raise Contradiction(f"{request.name}: no duplicate, and no offsets: {answer}")
        if None not in offsets and offsets != list(range(offsets[0], offsets[0] + len(offsets))):
            raise Contradiction(f"{request.name}: a request's records are not side by side: {answer}")


def bind(writers, url):
    """Gives every second name an id of the cluster, and its writers the epoch that begins with that."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    epochs = {}
    for name in sorted({writer.name for writer in writers})[::2]:
        connection.request("PUT", f"/v1/producers/{name}")
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise Contradiction(f"PUT /v1/producers/{name}: {answer.status} {text}")
        epochs[name] = json.loads(text)["epoch"]
    connection.close()
    for writer in writers:
        writer.epoch = epochs.get(writer.name, 0)


def guarded(run, work, *arguments):
    try:
        work(*arguments)
    except Contradiction as contradiction:
        run.contradict(str(contradiction))
    except Exception as error:
        # An answer that cannot be understood is one too.
        run.contradict(f"{type(error).__name__}: {error}")
        raise


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the bad network in front of the node")
    parser.add_argument("topic")
    parser.add_argument("--mode", choices=["key", "sequence"], required=True)
    parser.add_argument("--form", choices=["json", "ndjson", "raw", "batches"], default="json", help="of --mode key")
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=0.5, help="seconds that an answer may take")
    parser.add_argument("--seconds", type=float, default=600, help="of the whole run, at most")
    parser.add_argument("--bind", metavar="URL", help="the node itself; every second producer's name is bound there first (PUT /v1/producers/…)")
    parser.add_argument("--no-protection", action="store_true", help="send neither key nor sequence")
    parser.add_argument("--report", metavar="FILE", required=True)
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    run = Run(options)
    share = [options.requests // options.writers + (number < options.requests % options.writers) for number in range(options.writers)]
    kind = KeyWriter if options.mode == "key" else SequenceWriter
    writers = [kind(run, number, requests) for number, requests in enumerate(share)]
    if options.mode == "sequence" and options.bind and not options.no_protection:
        guarded(run, bind, writers, options.bind)
    begun = time.monotonic()
    if options.mode == "key":
        threads = [threading.Thread(target=guarded, args=(run, writer.work)) for writer in writers]
    else:
        threads = [threading.Thread(target=guarded, args=(run, writer.work, n)) for writer in writers for n in range(IN_FLIGHT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = {
        "counts": run.counts,
        "millis": round(1_000 * (time.monotonic() - begun)),
        "sent": [writer.sent for writer in writers],
        "acknowledged": [place for writer in writers for place in writer.places],
        "last": [last for writer in writers for last in writer.lasts],
        "contradiction": run.contradiction,
    }
    with open(options.report, "w", encoding="utf-8") as file:
        json.dump(report, file)
    if run.contradiction:
        print(run.contradiction)
        return 1
    is_done = run.counts.get("acknowledged", 0) == options.requests
    print(f"{run.counts.get('acknowledged', 0)} of {options.requests} requests are acknowledged: {run.counts}")
    return 0 if is_done else 3


if __name__ == "__main__":
    sys.exit(main())
