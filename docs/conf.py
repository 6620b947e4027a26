"""Sphinx settings."""

import importlib.metadata

project = "txasync"
author = "The txasync authors"
release = importlib.metadata.version("txasync")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
napoleon_custom_sections = ["Context", "Cancellation", "Source"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# What others document; there is no inventory of theirs at hand when this is built offline.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(_?asyncio|collections|concurrent|contextvars|os|selectors|socket|ssl|subprocess|twisted|unittest|zope)\b.*",
    ),
    (r"py:.*", r"contextlib\b.*"),
    (r"py:.*", r"(bool|bytes|float|int|object|str|None|NotImplementedError|OSError|RuntimeError|TypeError|ValueError)"),
    # Type variables and types of parameters that only this package gives.
    (
        r"py:class",
        r"((txasync\..*\.)?_[PT]|.*\._ProtocolT|_Ts|Context|Deferred|Failure|NestableSet|<InterfaceClass .*>)",
    ),
    (r"py:class", r"(FileIO|Pipe|Tell|MemoryEventLoop|MemoryNetworkReactor|MemoryTransport)"),
    # What stands between two worlds: users know it by the interfaces that it provides.
    (r"py:class", r"(txasync\.adapters\._on_(asyncio|twisted)\..*|ServerFactory)"),
    (r"py:.*", r"(KeyboardInterrupt|SystemExit|SelectorEventLoop|Coroutine|typing\..*|IReactorFDSet|IReadDescriptor)"),
]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "asyncio over Twisted reactors", "fixed_sidebar": True}
html_static_path: list[str] = []
default_role = "py:obj"
