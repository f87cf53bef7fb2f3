"""How checks are counted and printed, and where the vault is."""

import os
import secrets
import sys
import threading
from collections.abc import Callable

URL = os.environ.get("AKV_URL", "").rstrip("/")
if not URL:
    sys.exit("AKV_URL is not set: the vault's address, by a name below a domain.")
RUN = secrets.token_hex(4)

passed = failed = 0


def check(what: str, body: Callable[[], None]) -> None:
    """One check: a line, and a count. The checks after it run whatever comes of it."""
    global passed, failed
    try:
        body()
    except Exception as error:  # noqa: BLE001 (whatever went wrong is what is printed)
        failed += 1
        print(f"FAIL  {what}: {type(error).__name__}: {' '.join(str(error).split())[:400]}", flush=True)
    else:
        passed += 1
        print(f"ok    {what}", flush=True)


def finish() -> None:
    """The last line."""
    print(f"{passed} passed, {failed} failed", flush=True)
    os._exit(0 if passed and not failed else 1)


def late() -> None:
    print(f"FAIL  not done after two minutes\n{passed} passed, {failed + 1} failed", flush=True)
    os._exit(1)


watch = threading.Timer(120, late)
watch.daemon = True
watch.start()
