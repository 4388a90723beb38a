"""The small copy of the repository from the tests of the containers."""

from tests.containers.conftest import on_path, project

__all__ = ["on_path", "project"]
