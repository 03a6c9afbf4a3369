"""Gives the folder `cli` its installed name in an editable install.

Hatchling puts `cli` into the wheel as `blurfast_cli`, but it cannot rename a package that stays where it is. A link
can, and type checkers and other tools follow it as Python does.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableLink(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            return
        link = Path(self.root, "build", "editable", "blurfast_cli")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "..", "cli"), target_is_directory=True)
