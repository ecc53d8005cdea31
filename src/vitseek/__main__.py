"""`python -m vitseek` is the `vitseek` program."""

from vitseek.cli.app import main

main()
