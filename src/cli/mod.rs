//! Command line, subcommands, and how errors look on a terminal.
