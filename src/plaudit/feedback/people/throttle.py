"""Limits on how often something may be tried, counted in the database so that they hold across processes."""

import hashlib
import hmac
import ipaddress
from typing import NamedTuple

from sqlalchemy import Connection, case, delete, or_
from sqlalchemy.dialects import postgresql, sqlite

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock, tables


class Limit(NamedTuple):
    """At most `hits` in a window of `window_ms` that begins with the first of them."""

    name: str
    hits: int
    window_ms: int


class Throttled(FeedbackError):  # noqa: N818 (the word for it)
    """Too many tries. retry_after: seconds until the next one may succeed."""

    def __init__(self, retry_after: int) -> None:
        minutes = -(-retry_after // 60)
        wait = "a minute" if minutes == 1 else f"{minutes} minutes"
        super().__init__("throttled", f"Too many tries. Wait {wait}, then try again.", status=429)
        self.retry_after = retry_after


def hit(connection: Connection, limit: Limit, key: str) -> None:
    """Count one try for `key` (no address or name in clear: pass a hash or an id).

    Raises Throttled once the limit is used up; the window then goes on as it was.
    """
    now = clock.now()
    table = tables.throttle
    over = table.c.window_start <= now - limit.window_ms
    new_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = (
        new_insert(table)
        .values(bucket=_bucket(limit, key), window_start=now, hits=1)
        .on_conflict_do_update(
            index_elements=[table.c.bucket],
            set_={
                "hits": case((over, 1), else_=table.c.hits + 1),
                "window_start": case((over, now), else_=table.c.window_start),
            },
        )
        .returning(table.c.hits, table.c.window_start)
    )
    hits, window_start = connection.execute(statement).one()
    if hits > limit.hits:
        raise Throttled(-(-(window_start + limit.window_ms - now) // 1000))
    if hits == 1:  # once a window: forget what nobody asks for any more, so that the table stays small
        prefix = f"{limit.name} "
        connection.execute(
            delete(table).where(
                table.c.bucket.startswith(prefix, autoescape=True), table.c.window_start <= now - limit.window_ms
            )
        )


def forget(connection: Connection, limits: list[Limit], key: str) -> None:
    """Give `key` all its tries back."""
    buckets = [tables.throttle.c.bucket == _bucket(limit, key) for limit in limits]
    connection.execute(delete(tables.throttle).where(or_(*buckets)))


def address_key(secret: bytes, address: str) -> str:
    """What stands for a network address: a keyed hash, of the whole network for IPv6, where one person has many."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        network = address
    else:
        network = str(ipaddress.ip_network((parsed, 64 if parsed.version == 6 else 32), strict=False))
    return hmac.new(secret, network.encode(), hashlib.sha256).hexdigest()[:40]


def _bucket(limit: Limit, key: str) -> str:
    return f"{limit.name} {key}"
