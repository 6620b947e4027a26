"""Fixtures: what either log has been told, and the forwarding of one to the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from txasync.application import LogForwarding, TwistedHandler, log_to_stdlib, log_to_twisted

LOGGER = "tests.logging"


def fail(message: str) -> None:
    """Raise a LookupError, two frames deep."""
    raise LookupError(message)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of every level."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(1)
    yield logger
    logger.setLevel(logging.NOTSET)
    assert not logger.handlers


@pytest.fixture
def events(begun_log: None) -> Iterator[list[dict[str, Any]]]:
    """Twisted's events of the test's own namespaces, asyncio's among them."""
    seen: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_namespace"] in (LOGGER, "asyncio", "py.warnings", "log_legacy"):
            seen.append(event)

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    yield seen
    globalLogPublisher.removeObserver(observer)


class Recorder(logging.Handler):
    """A handler of the test's own, on the root logger, that keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith((LOGGER, "asyncio", "twisted")):
            self.records.append(record)


@pytest.fixture
def records(begun_log: None) -> Iterator[list[logging.LogRecord]]:
    """The records that reach the root logger."""
    recorder = Recorder()
    root = logging.getLogger()
    root.addHandler(recorder)
    yield recorder.records
    root.removeHandler(recorder)


@pytest.fixture
def to_twisted() -> Iterator[LogForwarding]:
    """The logging module's records go to Twisted's log."""
    with log_to_twisted() as forwarding:
        yield forwarding
    assert not any(isinstance(handler, TwistedHandler) for handler in logging.getLogger().handlers)


@pytest.fixture(scope="module")
def begun_log() -> None:
    """Whoever begins Twisted's log, has what it has kept told to all observers once more; that is done here."""
    log_to_stdlib().stop()


@pytest.fixture
def to_stdlib(begun_log: None) -> Iterator[LogForwarding]:
    """Twisted's events go to the logging module."""
    with log_to_stdlib() as forwarding:
        yield forwarding
