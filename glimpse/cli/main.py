"""The `glimpse` command as a program: runs the command line, and its errors become sentences."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from glimpse.cli.console import CommandError, accept_all_text, printable
from glimpse.errors import GlimpseError, Unavailable

_PACKAGES = ("typer", "rich", "PIL")
"""What comes with the extra `cli`, by the names that are imported."""
_PARQUET_PACKAGES = ("pyarrow", "numpy")
"""What comes with the extra `parquet`, likewise."""
_OPTIONS = {
    "TLS_REQUIRED": "--tls-ca",
    "TOKEN_MISSING": "--token-file",
    "CLIENT_CERTIFICATE_MISSING": "--tls-cert FILE --tls-key",
}
"""The options that were missing, by the reason of the error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; errors are one sentence, no traceback.

    GLIMPSE_DEBUG=1 in the environment shows tracebacks of errors that nobody foresaw.
    """
    accept_all_text()
    try:
        from glimpse.cli.commands import app  # imports typer, which may be missing

        app()(args=arguments, prog_name="glimpse")
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except (GlimpseError, CommandError) as error:
        return _fail(_sentence(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads the output wanted its beginning only, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in _PACKAGES:
            return _fail(
                f"this needs {error.name}, which is not installed here; what the command line "
                "needs comes with: pip install typer rich pillow"
            )
        if isinstance(error, ModuleNotFoundError) and error.name in _PARQUET_PACKAGES:
            return _fail(
                f"this needs {error.name}, which is not installed here; what export and import "
                "need comes with: pip install pyarrow numpy"
            )
        if isinstance(error, ModuleNotFoundError) and error.name == "glimpse.cli.local":
            return _fail(
                "the services are not part of the installed client: they run from a checkout of "
                "glimpse, where `make demo` sets everything up (and `pip install -e .` undoes a "
                "`pip install .`), or from its images"
            )
        if os.environ.get("GLIMPSE_DEBUG"):
            raise
        return _fail(
            f"this is a bug in glimpse: {type(error).__name__}: {error} "
            "(GLIMPSE_DEBUG=1 shows where)"
        )
    return 0


def _sentence(error: Exception) -> str:
    # Without a reason, it was the connection that failed and not a service that answered.
    if isinstance(error, Unavailable) and not error.reason:
        return f'{error}; is it running? "glimpse up" starts everything on this machine'
    if isinstance(error, GlimpseError) and error.reason in _OPTIONS:
        return f"{error}; here: glimpse {_OPTIONS[error.reason]} FILE ..."
    return str(error)


def _fail(message: str) -> int:
    lines = message.splitlines() or [""]
    print("glimpse: " + "\n".join(printable(line) for line in lines), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
