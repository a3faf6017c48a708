"""Readers of the files that Kafka keeps in a log directory, one module per kind of file.

Written from a description of Kafka's file format, with the standard library only. Section numbers in the docstrings
("2.1" and so on) are the sections of that description.
"""


class FormatError(ValueError):
    """The bytes are not what the format says."""
