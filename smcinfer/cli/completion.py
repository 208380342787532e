"""``smcinfer completion``: the script that completes commands and options in a shell."""

from typing import Literal

from smcinfer.cli.options import command


@command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the script; nothing on the machine is changed.

    Args:
        shell: bash, zsh or fish.
    """
    from smcinfer.cli.app import build

    print(build().generate_completion(shell=shell))
