"""The words that the demo's companies, products and stores are named with.

Only characters of Latin-1 belong here, so that the demo fits databases of any common encoding.
"""

from __future__ import annotations

FAMILIES = (
    "O'Brien", "D'Angelo", "L'Écuyer", "Müller", "Núñez", "Åkesson", "Öztürk", "Gonçalves",
    "Lefèvre", "Sørensen", "Bjørnstad", "Hallgrímsson", "Peña", "Käfer", "Groß", "Benoît",
    "Smith", "Okafor", "Tanaka", "Rossi", "Kowalski", "Van der Meer", "McAllister", "Haddad",
    "Nakamura", "Andrade", "Fitzgerald", "Ivanova", "Castañeda", "Mårtensson", "Laurent", "Weiß",
)  # fmt: skip

TRADES = (
    "Hardware", "Home & Garden", "Coffee Roasters", "Outdoor", "Farmers' Market", "Papeterie",
    "Bike Works", "Épicerie Fine", "Bücher", "Kitchen Supply", "Marine", "Toys", "Ferretería",
    "Wine & Spirits", "Café", "Workwear",
)  # fmt: skip

FORMS = ("", "", " & Sons", " & Fils", " Ltd", " GmbH", " S.L.", " AB", " Inc.", " e.K.")

# What `lower` and a regular expression would make of these depends on the server's locale.
ACCENTED = "ÅÉÖßäåçèéíîñöøúü"
PLAIN = "AEOsaaceeiinoouu"

STYLES = (
    "Classic", "Everyday", "Heritage", "Compact", "Alpine", "Atelier", "Nº 5", "Crème", "Studio",
    "Traveller's", "Fjord", "Señorial", "Professional", "Petite", "Grand", "Zürich",
)  # fmt: skip

GOODS = (
    ("Chef's Knife", "KNF"), ("Espresso Maker", "ESP"), ("Enamel Mug", "MUG"),
    ("Café Chair", "CHR"), ("Wool Blanket", "BLK"), ("Hand Trowel", "TRW"),
    ("Cordless Drill", "DRL"), ("Crêpe Pan", "PAN"), ("Notebook A5", "NBK"),
    ("Ladies' Raincoat", "RNC"), ("Bicycle Bell", "BEL"), ("Desk Lamp", "LMP"),
    ("Olive Oil 750 ml", "OIL"), ("Puzzle, 1000 pieces", "PUZ"), ("Door Hinge 3/4\"", "HNG"),
    ("Rucksack 28 l", "BAG"),
)  # fmt: skip

VARIANTS = (
    "black", "white", "red", "navy", "forest green", "crème", "small", "medium", "large",
    "set of 2", "set of 6", "refill", "left-handed", "gift box", "bleu nuit", "natural",
)  # fmt: skip

STORES = (
    "Harbour Street", "Old Town", "Airport", "Königsallee", "Rue de l'Église", "Plaza España",
    "Riverside", "Station", "University", "Østerbro", "Market Hall", "Outlet",
)  # fmt: skip
