"""The command line: `ytrue`, one verb for each public function."""

from ytrue.cli import data, models
from ytrue.cli.app import app, main

__all__ = ["app", "data", "main", "models"]
