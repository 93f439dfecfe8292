"""The command line: `ytrue`, one verb for each public function."""

from ytrue.cli import data, demo, models, tuning
from ytrue.cli.app import app, main

__all__ = ["app", "data", "demo", "main", "models", "tuning"]
