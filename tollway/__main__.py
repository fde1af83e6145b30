"""`python -m tollway` is the `tollway` command."""

from tollway.launcher import main

main()
