"""
Secrets on their way through a real server and a real Redis: where they are found, and when.
"""

import base64
import secrets
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from redis_server import redis_server
from servers import serving
from service import PATIENCE, post_later, results_of, wait_for

KIND = "uvicorn-h11-asyncio"
HEADERS = {
    "authorization": "Bearer canary-header",
    "cookie": "session=canary-header",
    "x-api-key": "canary-header",
}
# Redis writes all that it is told into its file of commands, and into its log of slow ones.
OPTIONS = (
    *("--rdbcompression", "no"),
    *("--slowlog-log-slower-than", "0"),
    *("--slowlog-max-len", "1000000"),
)
# A batch that has waited for that long does not run.
LONG_AGO = 1_000_000


def operation(path):
    """
    One operation, secret in all its parts.
    """
    headers = {"accept": "text/canary-operation"}
    return {"method": "POST", "path": path, "headers": headers, "body": "canary-body"}


def submit(url, *paths, **headers):
    """
    Send a batch for later, with credentials; what is said of it.
    """
    answer = post_later(url, [operation(path) for path in paths], **HEADERS, **headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def key_of(redis, batch, part):
    """
    The key of one part of a batch.
    """
    (key,) = redis.client.scan_iter(f"*:b:{batch['batchId']}:{part}")
    return key


def values_of(redis):
    """
    What Redis holds, in its memory and as it writes it into a file.
    """
    client = redis.client
    client.save()
    folder = Path(client.config_get("dir")["dir"])
    dumps = [client.dump(key) for key in client.scan_iter()]
    return b"".join([*dumps, (folder / "dump.rdb").read_bytes()])


def traces_of(redis):
    """
    What Redis has ever been told: its files, and its log of slow commands, which is of all.
    """
    folder = Path(redis.client.config_get("dir")["dir"])
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    slow = [each["command"] for each in redis.client.slowlog_get(1_000_000)]
    return b"".join([*files, *slow])


@contextmanager
def secretive(folder, key="", retry_ttl="0"):
    """
    The app on a server, and the Redis behind it.
    """
    with redis_server(folder / "redis", *OPTIONS, appendonly=True) as redis:
        env = {"REDIS": redis.url, "KEY": key, "RETRY_TTL": retry_ttl}
        with serving(KIND, "apps.secretive:app", folder / "server", env=env) as server:
            yield server, redis


def every_end(server, redis):
    """
    Bring batches to all the ends that there are; what Redis holds while they run, and their ends.
    """
    url, client = server.url, redis.client
    good = submit(url, "/canary-path", **{"idempotency-key": "canary-key"})
    bad = submit(url, "/canary-path?status=404", "/canary-path")
    wait_for(url, good)
    wait_for(url, bad)
    # This one runs until it is released, and there is room for one at a time.
    cancelled = submit(url, "/canary-wait", "/canary-path")
    changed, lost, old = [submit(url, "/canary-path") for _ in range(3)]
    operations = key_of(redis, changed, "ops")
    client.lset(operations, 0, client.lindex(operations, 0)[:-1])
    client.delete(key_of(redis, lost, "ops"))
    client.hset(key_of(redis, old, "rec"), "updated_at", LONG_AGO)
    meanwhile = values_of(redis)
    httpx.delete(f"{url}/batch/{cancelled['batchId']}", timeout=PATIENCE)
    httpx.get(f"{url}/release", timeout=PATIENCE)
    batches = (good, bad, cancelled, changed, lost, old)
    ends = [wait_for(url, each) for each in batches]
    codes = [each.get("error", {}).get("code") for each in ends]
    results = [results_of(url, each) for each in (good, old)]
    return (
        meanwhile,
        [(each["status"], code) for each, code in zip(ends, codes, strict=True)],
        results,
    )


ENDS = [
    ("completed", None),
    ("completed", None),
    ("cancelled", None),
    ("failed", "record_corrupt"),
    ("failed", "record_corrupt"),
    ("completed", None),
]


@pytest.mark.parametrize("retry_ttl", ["0", "600"])
def test_t41_with_a_key_no_secret_ever_reaches_redis(tmp_path, retry_ttl):
    """
    T40, T41: neither its memory, its files and its logs, nor the log of the server, at any time.
    """
    key = secrets.token_urlsafe(32)
    with secretive(tmp_path, key, retry_ttl) as (server, redis):
        meanwhile, ends, (good, old) = every_end(server, redis)
        found = meanwhile + values_of(redis) + traces_of(redis) + server.log().encode()

    assert ends == ENDS
    assert good[0]["result"] == '"canary-body"'
    assert old[0]["error"]["code"] == "expired"
    assert b"EVALSHA" in found
    assert b"canary" not in found
    assert key.encode() not in found
    assert base64.urlsafe_b64decode(key + "=") not in found


@pytest.mark.parametrize("retry_ttl", ["0", "600"])
def test_t41_t42_without_a_key_nothing_of_the_caller_is_left(tmp_path, retry_ttl):
    """
    T40, T41, T42: whatever the end was; of the operations nothing but what can be tried again.
    """
    with secretive(tmp_path, retry_ttl=retry_ttl) as (server, redis):
        meanwhile, ends, _ = every_end(server, redis)
        after, log = values_of(redis), server.log()

    assert ends == ENDS
    assert b"canary-header" in meanwhile
    assert b"canary-header" not in after
    assert b"canary-set-cookie" not in meanwhile + after
    assert b"canary-key" not in meanwhile + after
    assert (b"canary-operation" in after) is (retry_ttl != "0")
    assert "canary" not in log.replace("canary-path", "").replace("canary-wait", "")
