"""The miniature of the repository that the container tests run in."""

from tests.containers.conftest import on_path, project

__all__ = ["on_path", "project"]
