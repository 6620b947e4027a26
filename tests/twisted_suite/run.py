"""
Twisted's own tests of reactors, on our reactor and on EPollReactor, by hand.

    python tests/twisted_suite/run.py                      all that are chosen, on all configurations, compared
    python tests/twisted_suite/run.py --on txasync NAME    modules or tests of Twisted's, on one, with tracebacks
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.twisted_suite import jobs, report


def main() -> int:
    """Run what the command line asks for; print what came of it, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="modules, or tests; default: those that are chosen")
    parser.add_argument("--on", action="append", choices=jobs.CONFIGURATIONS, help="may be repeated; default: all")
    parser.add_argument("--json", metavar="FILE", help="write everything to this file")
    arguments = parser.parse_args()
    configurations = arguments.on or jobs.CONFIGURATIONS
    if arguments.names:
        outcomes = {name: {"by hand": jobs.run(name, arguments.names)} for name in configurations}
    else:
        outcomes = jobs.run_all(configurations)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(outcomes, indent=1))
    print(report.table(outcomes))
    print(report.unsuccessful(outcomes))
    is_good = True
    for configuration, of_parts in outcomes.items() if jobs.BASELINE in outcomes else ():
        if configuration != jobs.BASELINE:
            compared = jobs.compare(configuration, of_parts, outcomes[jobs.BASELINE])
            print(report.excused(configuration, compared), *compared.differing, *compared.stale, sep="\n")
            is_good &= not compared.differing
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
