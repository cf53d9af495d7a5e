"""How levels of stock are read beside the records that they are of, and which are of none.

What is written into levels, and taken back, is in `stock_level.py`.
"""

from __future__ import annotations

from inventory_migration.database import quoted
from inventory_migration.engine import columns, owners, places, readings
from inventory_migration.engine.shapes.level_columns import LevelColumns
from inventory_migration.engine.shapes.shape import Held


class LevelReading(LevelColumns):
    """The levels of each record, as the alias `im_t` beside the source, and each by itself, `t`."""

    @property
    def location_type(self) -> str:
        """The type of the locations' key."""
        return self.resolved.location_key_type

    def location_key(self, alias: str = "s") -> str:  # noqa: ARG002
        """The location of the record's level, the first of them where it has several."""
        return "im_t.location_key"

    def same_location(self, key: str, location_key: str) -> str:
        """Equal, in the key's own type."""
        return f"{key} = {location_key}"

    def target_columns(self, alias: str = "s") -> list[str]:  # noqa: ARG002
        """Location and numbers of the record's level, or the sums where it has several."""
        return [f"im_t.{name}" for name in self.target.holds_as]

    def row_xmin(self, alias: str = "s") -> str:  # noqa: ARG002
        """The transaction that wrote the record's one level last."""
        return "im_t.row_xmin"

    def rows(self) -> str:
        """How many levels the record has."""
        return "im_t.levels"

    def joins(self, chunked: str | None = None) -> str:
        """The levels of each record; of the records of `:im_chunks` alone where chunked."""
        resolved = self.resolved
        same = columns.key_of_source(resolved, "im_t")
        if resolved.target_key:
            # A chunk has the keys in its snapshot, where they stay what they are until it ends.
            keys = columns.record_keys(resolved)
            own = [f"im_p.{key}" for key in keys] if chunked else columns.record_values(resolved)
            pairs = [*zip(own, keys, strict=True), (owners.company_key(resolved), "company_key")]
            same = " AND ".join(f"{value} = im_t.{key}" for value, key in pairs)
        return f"""
            LEFT JOIN ({self.levels(chunked)}) AS im_t
              ON {same}"""

    def levels(self, chunked: str | None = None) -> str:
        """The levels as one row for each record, by canonical keys: location, sums, how many.

        Two companies may have levels of one key, each at locations of its own: then whose a level
        is, is part of what names it.
        """
        record = self._record("t")
        keys = columns.record_keys(self.resolved)
        only = ""
        if chunked:
            # Named here as well, so that a chunk does not add up the levels of all others.
            only = (
                f"WHERE ({', '.join(record)}) IN (SELECT {', '.join(f'im_c.{k}' for k in keys)} "
                f"FROM {chunked} AS im_c WHERE im_c.chunk = ANY(:im_chunks))"
            )
        named = ", ".join(f"{column} AS {key}" for column, key in zip(record, keys, strict=True))
        location = f"t.{quoted(self.target.location)}"
        owner = ""
        if self.resolved.target_key:
            owner = f"JOIN ({self._owned()}) AS im_w ON im_w.location_key = {location}"
            named += ", im_w.company_key"
            record = [*record, "im_w.company_key"]
        if self.resolved.levels_alone:
            # Whoever asks for it counts what is joined: a record with two would be there twice.
            held = zip(self.target.holds_as[1:], self._numbers("t"), strict=True)
            return f"""
            SELECT {named}, 1::bigint AS levels, {location} AS location_key,
                   {", ".join(f"{number} AS {name}" for name, number in held)},
                   t.xmin::text AS row_xmin
            FROM {self.resolved.levels_sql} AS t {owner} {only}"""
        sums = ", ".join(
            f"CASE WHEN count(*) = count({number}) THEN sum({number}) END AS {name}"
            for name, number in zip(self.target.holds_as[1:], self._numbers("t"), strict=True)
        )
        return f"""
            SELECT {named}, count(*) AS levels,
                   (array_agg({location} ORDER BY {location}))[1] AS location_key, {sums},
                   CASE WHEN count(*) = 1 THEN min(t.xmin::text) END AS row_xmin
            FROM {self.resolved.levels_sql} AS t {owner} {only}
            GROUP BY {", ".join(record)}"""

    def stands(self, record: str) -> str:
        """The condition that a record's company has a level of the name that a snapshot row has."""
        location = f"t.{quoted(self.target.location)}"
        return f"""EXISTS (
            SELECT FROM {self.resolved.levels_sql} AS t
            JOIN ({self._owned()}) AS im_w ON im_w.location_key = {location}
            WHERE {self._of_record("t", record)} AND im_w.company_key = {record}.company_key)"""

    def held(self, alias: str = "s") -> Held | None:  # noqa: ARG002
        """The sums over the record's levels; what is reserved may stay in the record alone."""
        return Held("im_t.on_hand", "im_t.reserved" if self.target.reserved else "")

    def lines(self) -> str:
        """The levels; what is reserved stands in the record alone where they have no column."""
        resolved = self.resolved
        location = f"t.{quoted(self.target.location)}"
        on_hand, *reserved = self._numbers("t")
        same = zip(columns.record_values(resolved), self._record("t"), strict=True)
        named = ", ".join(f"{column} AS at_{n}" for n, column in enumerate(self._record("t"), 1))
        met = [f"{value} = im_l.at_{n}" for n, (value, _) in enumerate(same, 1)]
        owner = ""
        if resolved.target_key:
            owner = f"JOIN ({self._owned()}) AS im_w ON im_w.location_key = {location}"
            named += ", im_w.company_key AS at_company"
            met.append(f"{owners.company_key(resolved)} = im_l.at_company")
        held, alone = (reserved or ["0::numeric"])[0], "im_l.held"
        if not reserved and resolved.mapping.source.reserved is not None:
            # Once, at whichever location comes first.
            record = ", ".join(self._record("t"))
            held = f"row_number() OVER (PARTITION BY {record} ORDER BY {location})"
            alone = f"CASE WHEN im_l.held = 1 THEN {readings.reserved(resolved)} ELSE 0 END"
        return f"""
            JOIN (SELECT {named}, {location} AS location_key, {on_hand} AS on_hand,
                         {held} AS held, t.xmin::text AS xmin
                  FROM {resolved.levels_sql} AS t {owner}) AS im_l ON {" AND ".join(met)}
            CROSS JOIN LATERAL (
                SELECT im_l.location_key, im_l.on_hand, im_l.xmin, {alone} AS reserved) AS im_a"""

    def astray(self) -> str:
        """Levels of no record: key_text, location, why.

        Levels by another key than the record's may be of more than the records: of these, only
        those of no location, and those at a location whose company has no such record while
        another has.
        """
        location = f"t.{quoted(self.target.location)}"
        named = ", ".join(self._record("t"))
        told = f"concat_ws(', ', {named}) AS key_text, {location}::text AS location"
        if not self.resolved.target_key:
            keys = zip(self.resolved.key_columns, self._record("t"), strict=True)
            same = " AND ".join(f"s.{quoted(key.name)} = {level}" for key, level in keys)
            return f"""
                SELECT {told}, 'no such record' AS why
                FROM {self.resolved.levels_sql} AS t
                WHERE NOT EXISTS (SELECT FROM {self.resolved.source.sql} AS s WHERE {same})"""
        pairs = zip(self._record("t"), columns.record_keys(self.resolved), strict=True)
        same = " AND ".join(f"{level} = im_s.{key}" for level, key in pairs)
        values = columns.record_values(self.resolved)
        own = zip(values, columns.record_keys(self.resolved), strict=True)
        records = f"""
            SELECT {", ".join(f"{value} AS {key}" for value, key in own)},
                   {owners.company_key(self.resolved)} AS company_key
            FROM {self.resolved.source.sql} AS s {self.resolved.mapping.source.joins}
            {owners.join(self.resolved)}"""
        here = f"SELECT FROM ({self._owned()}) AS im_w WHERE im_w.location_key = {location}"
        return f"""
            SELECT {told}, CASE WHEN found THEN 'a record of another company'
                                ELSE 'no such location' END AS why
            FROM (SELECT t.*, EXISTS ({here}) AS found FROM {self.resolved.levels_sql} AS t) AS t
            WHERE NOT found
               OR EXISTS (SELECT FROM ({records}) AS im_s WHERE {same})
              AND NOT EXISTS (SELECT FROM ({records}) AS im_s
                              JOIN ({self._owned()}) AS im_w
                                ON im_w.company_key = im_s.company_key
                              WHERE {same} AND im_w.location_key = {location})"""

    def _owned(self) -> str:
        """The locations with whose they are: location_key, company_key."""
        if self.resolved.locations is not None:
            return places.owned(self.resolved)
        return (
            f"SELECT NULL::{self.resolved.location_key_type} AS location_key, "
            f"NULL::{self.resolved.company_key_type} AS company_key WHERE false"
        )
