"""The commands of the `tollway` command line, by what they are about."""
