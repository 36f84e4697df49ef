"""`python -m ppidm`."""

from ppidm.cli import main

main()
