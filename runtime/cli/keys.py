"""`headway keys`: who may talk to an edge server."""

import json
from pathlib import Path
from typing import Annotated

import typer

_USES = ("new", "show", "allow", "disallow")


def keys(
    use: Annotated[str, typer.Argument(metavar="USE", help="new, show, allow or disallow")],
    file: Annotated[Path, typer.Argument(help="Key file (new, show) or allow-list (show, allow, disallow)")],
    who: Annotated[str | None, typer.Argument(help="allow: a public key or key file; disallow: key or name")] = None,
    name: Annotated[str | None, typer.Option(help="allow: what people call this client")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Make and show CURVE keys, and keep the list of clients that an edge server lets in.

    `new FILE` makes a pair, mode 0600, and prints its public key. `show FILE` prints the public key of a key file, or
    the clients of an allow-list. `allow LIST KEY --name car-7` lets a client in, `disallow LIST car-7` takes it off; a
    running server follows within a second. A secret key is never printed.
    """
    from offload.errors import SecurityError
    from offload.security import keys as stored

    if use not in _USES:
        raise typer.BadParameter(f"{use!r}: must be one of {', '.join(_USES)}", param_hint="USE")
    if (use in ("allow", "disallow")) != (who is not None):
        raise typer.BadParameter("allow and disallow need it, new and show take none", param_hint="WHO")
    if name is not None and use != "allow":
        raise typer.BadParameter("goes with allow", param_hint="--name")
    if use == "new":
        pair = stored.new_keys()
        stored.write_keys(file, pair)
        _tell(as_json, {"file": str(file), "public": pair.public}, pair.public)
    elif use == "show":
        try:
            public = stored.read_keys(file).public
        except SecurityError as error:
            if not _is_list(file):
                raise error from None
            names = stored.read_allowed(file)
            lines = "\n".join(f"{key} {name}" for key, name in names.items()) or "nobody is let in"
            _tell(as_json, {"file": str(file), "allowed": names}, lines)
        else:
            _tell(as_json, {"file": str(file), "public": public}, public)
    elif use == "allow" and who is not None:
        key = stored.read_keys(Path(who)).public if Path(who).is_file() else who
        called = name or key[:8]
        added = stored.allow(file, key, called)
        text = f"{called} is let in" if added else f"{called} was let in already"
        _tell(as_json, {"file": str(file), "public": key, "name": called, "added": added}, text)
    elif who is not None:
        gone = stored.disallow(file, who)
        _tell(as_json, {"file": str(file), "removed": gone}, f"{', '.join(gone)}: no longer let in")


def _is_list(file: Path) -> bool:
    """Whether a file is meant to be an allow-list: then what is wrong with it is told as a list's."""
    try:
        return "secret" not in file.read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _tell(as_json: bool, table: dict[str, object], text: str) -> None:
    typer.echo(json.dumps(table) if as_json else text)
