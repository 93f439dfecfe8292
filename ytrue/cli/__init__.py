"""The command line: `ytrue`, one verb for each public function."""

from ytrue.cli import (
    comparing,
    data,
    demo,
    evaluating,
    exporting,
    predicting,
    showing,
    training,
    tuning,
)
from ytrue.cli.app import app, main

__all__ = [
    "app",
    "comparing",
    "data",
    "demo",
    "evaluating",
    "exporting",
    "main",
    "predicting",
    "showing",
    "training",
    "tuning",
]
