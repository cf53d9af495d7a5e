"""Which columns hold what a document must not show: secrets, and what tells of a person.

By a column's name and its table's, whatever the mapping says, and by values that are addresses.
It hides too much rather than too little: of a hidden column counts and lengths are shown, and
no value.
"""

from __future__ import annotations

import re
from itertools import pairwise

from inventory_migration.proposal.words import words as words_of

_SECRET = frozenset(
    (
        "password", "passwd", "pwd", "pass", "passphrase", "passcode", "token", "secret", "hash",
        "salt", "pin", "otp", "credential", "auth", "apikey", "signature", "cvc", "cvv", "jwt",
        "cookie", "session", "nonce", "fingerprint", "digest", "encrypted", "cipher", "hashed",
        "bcrypt", "argon", "sha", "md", "passwort", "kennwort", "senha", "contrasena",
    )
)  # fmt: skip
_PERSONAL = frozenset(
    (
        "email", "mail", "phone", "telephone", "tel", "mobile", "fax", "cell", "ssn", "iban", "bic",
        "swift", "passport", "birth", "birthday", "birthdate", "dob", "gender", "sex", "salary",
        "religion", "nationality", "firstname", "lastname", "fullname", "surname", "forename",
        "middlename", "nickname", "username", "login", "contact", "person", "address", "street",
        "zip", "zipcode", "postcode", "postal", "latitude", "longitude", "lat", "lng", "ip",
        "ipaddress", "avatar", "photo", "creditcard", "vat", "whatsapp", "skype", "telefon",
        "telefone",
    )
)  # fmt: skip
_TOGETHER = frozenset((
    ("api", "key"), ("access", "key"), ("private", "key"), ("credit", "card"), ("card", "number"),
    ("account", "number"), ("first", "name"), ("last", "name"), ("full", "name"),
    ("given", "name"), ("family", "name"), ("middle", "name"), ("maiden", "name"),
    ("display", "name"), ("user", "name"), ("post", "code"), ("tax", "number"),
    ("user", "agent"), ("social", "security"),
))  # fmt: skip
_PEOPLE = frozenset(
    (
        "user", "person", "people", "employee", "customer", "contact", "member", "patient",
        "staff", "driver", "guest", "recipient", "buyer", "student", "profile",
    )
)  # fmt: skip
"""Words for persons: a name beside one of these is theirs."""

_NAMES = frozenset(("name", "initial", "title", "note", "comment", "remark"))

ADDRESSES = 0.05
"""From this share of addresses on among its values, a column is taken to hold addresses."""


def hides(table: str, column: str) -> bool:
    """Whether the values of a column must not be shown, by its name and its table's."""
    said = [re.sub(r"[0-9]+$", "", word) for word in words_of(column)]
    pairs = list(pairwise(said))
    if {*said, *map("".join, pairs)} & (_SECRET | _PERSONAL) or {*pairs} & _TOGETHER:
        return True
    people = {*said, *words_of(table)} & _PEOPLE
    return bool(people and {*said} & _NAMES)
