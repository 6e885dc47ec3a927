"""The machine: processor, memory and its limits, disk, and how fast they are, measured."""
