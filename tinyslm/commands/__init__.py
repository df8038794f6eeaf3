"""The commands of the command line, one file each: what they take, and what they print."""
