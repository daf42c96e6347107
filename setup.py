"""What pyproject.toml cannot say: the wheel gets the configurations of ``configs/``.

They lie at the top of the repository, where people look for them, and nowhere else. A wheel holds
them as ``heartseg/configs``; an editable installation reads them where they are.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copy the package, and the configurations into it."""

    def run(self) -> None:
        """Copy them, unless the installation is editable."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib) / "heartseg" / "configs"
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(Path("configs").glob("*.yaml")):
            self.copy_file(str(file), str(folder / file.name))


setup(cmdclass={"build_py": BuildWithConfigs})
