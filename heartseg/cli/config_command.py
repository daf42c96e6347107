"""``heartseg config``: the configurations that ship with heartseg."""

from typing import Annotated, Optional

import typer


def config(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            metavar="[NAME]", help="The configuration to print, as it is, to standard output."
        ),
    ] = None,
) -> None:
    """List the configurations that ship with heartseg, or print one to start your own from.

    heartseg config recommended > my.yaml writes one to a file. Every command takes the name in
    place of a file, too: heartseg train recommended.
    """
    from heartseg.config.shipped import describe_shipped, list_shipped, read_shipped

    if name is not None:
        typer.echo(read_shipped(name), nl=False)
        return
    shipped = list_shipped()
    width = max(map(len, shipped))
    for key in shipped:
        typer.echo(f"{key:<{width}}  {describe_shipped(read_shipped(key))}")
