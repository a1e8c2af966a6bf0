"""A producer in Python (psycopg 3), after examples/prepare.sql:

    apt-get install python3-psycopg          # or: pip install psycopg
    DATABASE_URL=postgres://example_shop:shop@localhost:5432/pawl python3 examples/python/enqueue.py

Prints one line of JSON: what was enqueued, what a rollback took back, and what a producer is told that tries to read.
"""

import json
import os
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

CATEGORY, USER = 9001, 9001
REPORT, READER = "00000000-0000-4000-8000-000000009004", "00000000-0000-4000-8000-000000009002"


def ask(connection: psycopg.Connection, call: str, **parameters: object) -> str:
    """Calls one of Pawl's functions, in whatever transaction the connection is in."""
    row = connection.execute(f"select pawl.{call}::text", parameters).fetchone()
    assert row is not None
    return row[0]


def place_order(connection: psycopg.Connection, customer: str) -> dict[str, str]:
    """An order, and everything it asks of Pawl."""
    connection.execute("insert into public.example_orders (customer) values (%s)", [customer])
    asked = {
        "override": ask(
            connection,
            "request_override(%(category)s, %(user)s, settings => %(settings)s, batch_size => 100, idempotency_key => %(key)s)",
            category=CATEGORY,
            user=USER,
            settings=Jsonb({"channel": "sms", "for": customer}),
            key=str(uuid4()),
        ),
        "campaign": ask(connection, "create_campaign(48, metadata => %(metadata)s)", metadata=Jsonb({"from": customer})),
    }
    asked["timer"] = ask(
        connection,
        "schedule_timer(%(campaign)s::uuid, 'EXPIRE_CAMPAIGN', %(at)s)",
        campaign=asked["campaign"],
        at=datetime.now(timezone.utc) + timedelta(hours=72),
    )
    asked["report"] = ask(connection, "run_report(%(report)s::uuid, %(reader)s::uuid, output_format => 'csv')", report=REPORT, reader=READER)
    asked["job"] = ask(
        connection, "enqueue('maintenance.sweep', %(data)s)", data=Jsonb({"schedule": "expire-refresh-checkpoints"})
    )
    # Last, because requests to refresh take turns until their transactions end.
    asked["refresh"] = ask(connection, "refresh_table('sqp.example_years')")
    return asked


class PaymentRefused(Exception):
    """Whatever may go wrong after the work was asked for."""


def main() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        with connection.transaction():
            committed = place_order(connection, "python")

        # The order fails after all: with it goes everything that was asked, and no worker ever hears of it.
        rolled_back: dict[str, str] = {}
        try:
            with connection.transaction():
                rolled_back = place_order(connection, "python, refused")
                raise PaymentRefused
        except PaymentRefused:
            pass

        # An operation can be reverted once it has ended; before that, Pawl says what to do.
        try:
            ask(connection, "revert_override('no such', %(user)s)", user=USER)
            refused = None
        except psycopg.Error as error:
            refused = {"code": error.sqlstate, "message": error.diag.message_primary, "hint": error.diag.message_hint}

        # pawl_producer may ask, and read nothing.
        try:
            connection.execute("select * from pawl.runs")
            reading = "allowed"
        except psycopg.errors.InsufficientPrivilege as error:
            reading = error.sqlstate

    print(json.dumps({"committed": committed, "rolled_back": rolled_back, "refused": refused, "reading": reading}))


if __name__ == "__main__":
    main()
