"""Errata: two or more wrong answers for each exercise, and what the message has to say about them."""


def digits_alone(identifier):
    return int(identifier.rpartition("/")[2].removeprefix("arXiv:")[:2])


def always_2000(identifier):
    return 2000 + digits_alone(identifier)


def archive_as_year(identifier):
    return int(f"20{identifier.removeprefix('arXiv:')[:2]}") if identifier[0] in "012a" else 2000


WRONG_ANSWERS = [
    ("errata.1", 48120, "A row and the right number"),
    ("errata.1", ("total", 61586), "The total is right"),
    ("errata.1", ("linear 4", 1), "There is no row 'linear 4'"),
    ("errata.1", ("convolution 2", 2400), "convolution 2 is right: 2,416"),
    ("errata.1", ("linear 1", 48000), "weights alone"),
    ("errata.1", ("linear 1", 48400), "not the sum"),
    ("errata.2", digits_alone, "two digits of the year"),
    ("errata.2", always_2000, "arXiv began in 1991"),
    ("errata.2", archive_as_year, "after the slash"),
    ("errata.2", lambda identifier: 2015 if "." in identifier else 1999, "the year is 2014"),
]
