"""`python -m ytrue`."""

from ytrue.cli import main

main()
