"""
A site of twisted.web whose pages come from PostgreSQL by asyncpg, which is asyncio's: in one process, on one reactor.

    pip install asyncpg
    DATABASE=postgresql://user@localhost/database twistd --nodaemon --python examples/web_and_database.tac

GET /       how many visits there were
POST /      one more

The site is a service of Twisted's. The connections to the database are those of a TaskService, which opens them when
the reactor runs, and closes them at the end: when the requests that use them have ended.
"""

import asyncio
import os

import asyncpg
from twisted.application import service, strports
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txasync import as_deferred
from txasync.application import TaskService


class Database:
    """A pool of connections, while it is open."""

    def __init__(self) -> None:
        self.pool: asyncpg.Pool | None = None

    async def keep_open(self) -> None:
        """Open the pool, and close it when cancelled: then, queries in flight are waited for."""
        try:
            async with asyncpg.create_pool(os.environ["DATABASE"], min_size=1, max_size=5) as pool:
                await pool.execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz NOT NULL DEFAULT now())")
                self.pool = pool
                print("the database is open")
                await asyncio.Event().wait()
        finally:
            self.pool = None
            print("the database is closed")
            # The last pages are with Twisted's transports, which send in the reactor's next iteration.
            for _ in range(2):
                await deferLater(reactor, 0)


class Visits(Resource):
    """The page. Its methods are Twisted's, and what they start is asyncio's."""

    isLeaf = True

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database

    def render_GET(self, request: Request) -> int:
        return self.answer(request, "SELECT count(*) FROM visits")

    def render_POST(self, request: Request) -> int:
        # The query does not see what its own WITH inserts.
        return self.answer(request, "WITH visit AS (INSERT INTO visits DEFAULT VALUES) SELECT count(*) + 1 FROM visits")

    def answer(self, request: Request, query: str) -> int:
        answering = as_deferred(self.visits(query))
        # Who has gone need not be answered; the query is cancelled, in the database, too.
        request.notifyFinish().addErrback(lambda gone: answering.cancel())
        answering.addCallbacks(self.send, self.fail, callbackArgs=[request], errbackArgs=[request])
        return NOT_DONE_YET

    async def visits(self, query: str) -> int:
        if self.database.pool is None:
            raise ConnectionError("the database is not open")
        return await self.database.pool.fetchval(query, timeout=10)

    def send(self, visits: int, request: Request) -> None:
        request.setHeader("Content-Type", "text/plain")
        request.write(b"%d visits\n" % visits)
        request.finish()

    def fail(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError):
            return
        print(f"no answer: {failure.value!r}")
        request.setResponseCode(503)
        request.write(b"later, please\n")
        request.finish()


database = Database()
application = service.Application("visits")
TaskService(database.keep_open).setServiceParent(application)
endpoint = os.environ.get("ENDPOINT", "tcp:8080:interface=127.0.0.1")
strports.service(endpoint, Site(Visits(database))).setServiceParent(application)
