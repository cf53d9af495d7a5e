"""The guards: what keeps units from being lost, where it stands, and who notices that it is gone.

A guard is removed by putting other text in the place of its own, which must be found exactly once.
How that is tried belongs in `remove.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """Something that keeps a promise.

    Attributes:
        name: What it is.
        without: What could happen if it were not there.
        module: Where it stands, below `inventory_migration/`.
        text: Its text, found there exactly once.
        instead: What stands in its place once it is removed.
        test: The test that fails then, as `file::name` below `inventory_migration_tests/`.
    """

    name: str
    without: str
    module: str
    text: str
    instead: str
    test: str


GUARDS = (
    Guard(
        "row lock",
        "a sale between reading and writing is lost with all totals agreeing",
        "engine/chunk.py",
        "            FOR NO KEY UPDATE OF s) AS locked",
        "            ) AS locked",
        "test_chunk.py::test_a1_reserved_from_order_lines_is_read_after_the_lock_not_before",
    ),
    Guard(
        "locks are never skipped",
        "a record that the application holds is left out of its chunk",
        "engine/chunk.py",
        "            FOR NO KEY UPDATE OF s) AS locked",
        "            FOR NO KEY UPDATE OF s SKIP LOCKED) AS locked",
        "test_chunk.py::test_a1_reserved_from_order_lines_is_read_after_the_lock_not_before",
    ),
    Guard(
        "claim lock",
        "two workers write one chunk",
        "engine/chunk.py",
        "    LIMIT :limit\n    FOR UPDATE SKIP LOCKED",
        "    LIMIT :limit",
        "test_worker.py::test_any_number_of_workers_takes_each_record_once",
    ),
    Guard(
        "claim on the target",
        "two processes drive one migration",
        "engine/control.py",
        '"SELECT pg_try_advisory_lock(hashtextextended(:target, 20261123))"',
        '"SELECT true OR hashtextextended(:target, 20261123) = 0"',
        "test_control.py::test_a_claim_is_exclusive_and_names_its_holder",
    ),
    Guard(
        "control totals",
        "units that a trigger takes after the write are never missed",
        "engine/chunk.py",
        "        if differences:\n            raise ControlTotalsDiffer(",
        "        if False:\n            raise ControlTotalsDiffer(",
        "test_chunk.py::test_a2_units_taken_by_a_trigger_after_the_write_stop_the_migration",
    ),
    Guard(
        "every claimed chunk is accounted for",
        "a chunk that the read-back left out counts as done",
        "engine/chunk.py",
        "        if sorted(row.number for row in rows) != sorted(chunks):",
        "        if False:",
        "test_chunk.py::test_a_chunk_that_is_not_read_back_is_not_done",
    ),
    Guard(
        "totals that differ twice stop",
        "an integrity violation is tried until it happens to pass",
        "engine/worker.py",
        'if isinstance(error, ControlTotalsDiffer) and claimed and claimed.last_error == "totals":',
        "if False:",
        "test_protocol_review_egh.py::test_h6_totals_that_disagree_twice_are_never_worked_around",
    ),
    Guard(
        "constraints are immediate before the totals are read",
        "a deferred trigger takes units behind the control totals",
        "engine/worker.py",
        '    connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))\n    return statements.',
        "    return statements.",
        "test_chunk.py::test_a2_a_deferred_trigger_is_heard_before_the_totals_are_read",
    ),
    Guard(
        "swallowed writes are looked for",
        "a record whose write a trigger suppressed counts as migrated",
        "engine/chunk.py",
        "        return list(found or [])",
        "        return []",
        "test_isolation.py::test_a_write_that_a_trigger_swallows_is_quarantined_not_lost",
    ),
    Guard(
        "pause check",
        "a worker goes on after the pause has returned",
        "engine/worker.py",
        '        if control.enter(connection, statements.migration_id) != "run":',
        '        if control.enter(connection, statements.migration_id) == "never":',
        "test_control.py::test_once_a_pause_has_returned_no_chunk_commits",
    ),
    Guard(
        "workers hold the migration's row",
        "a pause returns while a chunk is about to commit",
        "engine/control.py",
        "    WHERE migration_id = :migration_id FOR KEY SHARE",
        "    WHERE migration_id = :migration_id",
        "test_control.py::test_a_pause_waits_for_the_worker_in_its_transaction_and_new_ones_read_it",
    ),
    Guard(
        "pause barrier",
        "a pause returns without waiting for anybody",
        "engine/control.py",
        "    WHERE migration_id = :migration_id FOR UPDATE",
        "    WHERE migration_id = :migration_id",
        "test_control.py::test_the_barrier_gives_up_on_a_worker_that_does_not_end",
    ),
    Guard(
        "pause is durable",
        "a crash of the server unsays a pause that was acknowledged",
        "engine/control.py",
        "    connection.execute(_DURABLY)",
        "    pass",
        "test_control.py::test_b4_a_pause_is_durable_and_never_less_than_the_role_asks_for",
    ),
    Guard(
        "what stands behind the barrier asks what is wanted",
        "sweep, snapshot or close commit after a pause",
        "engine/control.py",
        "                require(connection, migration_id, wanted)",
        "                pass",
        "test_protocol_review_egh.py::test_h3_after_a_pause_neither_sweep_nor_close_commits_anything",
    ),
    Guard(
        "READ COMMITTED is spelled out",
        "a role's default lets a worker read what was wanted before the pause",
        "database.py",
        '        isolation_level="READ COMMITTED",\n',
        "",
        "test_control.py::test_b1_no_default_of_a_role_lets_a_worker_read_what_was_desired_before",
    ),
    Guard(
        "class 53 holds",
        "a full disk puts good records into quarantine",
        "engine/failures.py",
        'Failure("53", "disk, memory or connections used up", Action.HOLD)',
        'Failure("53", "disk, memory or connections used up", Action.ISOLATE)',
        "test_isolation.py::test_a_full_disk_is_nobodys_bad_record",
    ),
    Guard(
        "what passes stops nothing between the chunks either",
        "a cancelled sweep, or a forced pause beside one, leaves the migration failed",
        "engine/patience.py",
        "            if not passes(error):",
        "            if True:",
        "test_patience.py::test_a_forced_pause_between_two_chunks_leaves_it_paused",
    ),
    Guard(
        "what befalls a worker beside its chunks passes",
        "a cancel while a failure is written down stops the migration",
        "engine/worker.py",
        "            if not (lost or passes(error)) or not patience:",
        "            if not lost or not patience:",
        "test_patience.py::test_a_cancel_while_a_failure_is_written_down_stops_nothing",
    ),
    Guard(
        "a resume lifts what stood when it was given",
        "the next step of a resumed run overrules who has paused it since",
        "engine/plan.py",
        "    lifts = start.resume and not _has_lifted(connection, active, start)",
        "    lifts = start.resume",
        "test_steering.py::test_a_resume_lifts_no_pause_that_comes_after_it",
    ),
    Guard(
        "errors that nobody foresaw stop",
        "a broken statement is taken for bad data",
        "engine/failures.py",
        "_ACTIONS.get(state[:2], Action.STOP)",
        "_ACTIONS.get(state[:2], Action.ISOLATE)",
        "test_chunk.py::test_an_error_that_nobody_foresaw_stops_and_is_resumable",
    ),
    Guard(
        "a restarted server holds the migration",
        "what the server lost of its acknowledged commits goes unnoticed",
        "engine/worker.py",
        "    if not same:\n        raise ServerRestarted",
        "    if False:\n        raise ServerRestarted",
        "test_worker.py::test_b4_a_restarted_server_holds_the_migration_until_it_is_resumed",
    ),
    Guard(
        "probing leaves its savepoint",
        "records carry a subtransaction's id and pass for touched",
        "engine/isolation.py",
        "    connection.execute(_BACK)\n    connection.execute(_RELEASE)",
        "    connection.execute(_BACK)",
        "test_isolation.py::test_a4_isolated_chunks_carry_their_own_transaction_id",
    ),
    Guard(
        "who failed before is claimed alone",
        "one bad chunk takes others down with it until they are exhausted",
        "engine/chunk.py",
        "        if rows[0].attempts:\n",
        "        if False:\n",
        "test_protocol_review_b.py::test_b6_who_failed_before_is_claimed_alone",
    ),
    Guard(
        "an empty claim is not the end",
        "a phase ends while its last chunk is still under way",
        "engine/worker.py",
        "            return left\n",
        "            return False\n",
        "test_worker.py::test_a_phase_is_not_at_its_end_while_somebody_holds_its_last_chunk",
    ),
    Guard(
        "older writers are waited for",
        "what was written before the snapshot, and committed after it, is missed",
        "engine/schema_change.py",
        "        older = set(connection.execute(_WRITERS",
        "        older = set() and set(connection.execute(_WRITERS",
        "test_protocol_review_a.py::test_a3_a_writer_older_than_the_sweep_is_waited_for",
    ),
    Guard(
        "gates before writing",
        "a step writes past the gate that refused it",
        "engine/gates.py",
        "    if why:\n        raise GateRefused",
        "    if False:\n        raise GateRefused",
        "test_gates.py::test_no_step_writes_past_its_gate",
    ),
    Guard(
        "a gate's verdict grows stale",
        "locations that changed after they were judged are written",
        "engine/gates.py",
        "    if newest.judged != fingerprint(connection, resolved, suite):",
        "    if False:",
        "test_gates.py::test_a_default_location_that_changes_after_its_gate_stops_the_stock",
    ),
    Guard(
        "sticky verification",
        "work goes on upon what a verification found wrong",
        "engine/verification.py",
        "    if before is None:\n",
        "    if True:\n",
        "test_verification.py::test_no_step_runs_on_what_was_found_wrong_while_it_is_so",
    ),
    Guard(
        "thresholds",
        "a migration goes on while most records are quarantined",
        "engine/thresholds.py",
        "        if percent > limits.quarantined_percent:",
        "        if False:",
        "test_verbs.py::test_a_threshold_that_is_exceeded_on_the_way_does_what_the_mapping_says",
    ),
    Guard(
        "retries are counted",
        "a chunk that never goes is tried for ever",
        "engine/worker.py",
        "        _give_up(statements, claimed, attempts, state, error)\n        logger.info",
        "        logger.info",
        "test_thresholds.py::test_a_chunk_that_fails_too_often_does_what_the_mapping_says",
    ),
    Guard(
        "joins are counted",
        "a join doubles or drops records without a word",
        "engine/snapshot.py",
        "        joins.refuse_unfaithful(connection, resolved)\n",
        "",
        "test_joins.py::test_the_snapshot_is_not_written_with_a_join_that_changed_since",
    ),
    Guard(
        "one active migration per target",
        "two mappings write one column at a time",
        "engine/ledger/tables.py",
        "    unique=True,\n    postgresql_where=migration.c.state.in_(ACTIVE),",
        "    postgresql_where=migration.c.state.in_(ACTIVE),",
        "test_ledger.py::test_a_target_has_one_active_migration",
    ),
    Guard(
        "a second creator of locations is kept out",
        "a company ends with two default locations",
        "engine/new_locations.py",
        "[escaped(lock), insert] if keep_out else [insert]",
        "[insert]",
        "test_plan.py::test_d_a_creator_that_has_not_committed_yet_is_waited_for",
    ),
    Guard(
        "what is created is its company's default location",
        "a company's stock goes to a location that is not its own",
        "engine/default_locations.py",
        "    _refuse_unowned(connection, resolved, created)\n",
        "",
        "test_places.py::test_what_would_not_be_its_companys_default_location_is_not_created",
    ),
    Guard(
        "a location that others have linked is kept",
        "a rollback takes a location away that another company has come to use",
        "engine/created_locations.py",
        "            users.append(_User(named, resolved.place_links.sql, theirs))",
        "            pass",
        "test_places.py::test_a_rollback_keeps_what_others_linked_or_changed",
    ),
    Guard(
        "conflict check in the rollback",
        "what the application has moved since is overwritten",
        "engine/shapes/source_columns.py",
        "              AND {columns.all_same(self.target_columns(), ours)}\n            RETURNING",
        "            RETURNING",
        "test_rollback.py"
        "::test_a_record_that_the_application_moved_is_kept_and_listed_with_both_values",
    ),
    Guard(
        "read-only dry run",
        "an expression of a mapping writes while somebody only looks",
        "database.py",
        "        connection.read_only = read_only",
        "        connection.read_only = False",
        "test_verbs.py"
        "::test_an_expression_of_a_mapping_that_writes_cannot_do_so_while_somebody_only_looks",
    ),
    Guard(
        "the guard trigger adds no error",
        "an application's insert fails for what only a migration needs",
        "engine/guard.py",
        "    WHEN OTHERS THEN\n        RETURN im_as_it_came;",
        "    WHEN SQLSTATE '99999' THEN\n        RETURN im_as_it_came;",
        "test_guard.py::test_c_a_record_goes_in_as_it_came_whatever_the_trigger_meets",
    ),
    Guard(
        "row security is off, or refused",
        "records that a policy hides are overlooked",
        "engine/chunk.py",
        "           set_config('row_security', 'off', true),\n",
        "",
        "test_chunk.py::test_a_policy_that_hides_records_by_now_is_an_error_and_no_smaller_chunk",
    ),
    Guard(
        "the trail is only added to",
        "somebody rewrites what was done",
        "engine/ledger/installation.py",
        "    RAISE EXCEPTION 'the audit trail is only ever added to' USING ERRCODE = 'IM002';",
        "    RETURN NULL;",
        "test_ledger.py::test_the_audit_trail_is_only_ever_added_to",
    ),
    Guard(
        "transitions are the database's to allow",
        "a migration that was rolled back is taken up as if it had not been",
        "engine/ledger/installation.py",
        "        WHERE subject = TG_ARGV[0] AND from_state = OLD.state AND to_state = NEW.state)",
        "        WHERE true)",
        "test_ledger.py::test_a_step_that_makes_no_sense_is_refused_by_the_database",
    ),
    Guard(
        "the proof reads the target",
        "a wrong write in our own name passes for right",
        "engine/proof.py",
        '        WHERE kind IS NOT NULL"""',
        '        WHERE false"""',
        "test_proof.py::test_a7_a_wrong_write_in_our_own_name_is_found",
    ),
    Guard(
        "an interrupt cancels at the server",
        "a statement goes on, with its locks, after its program has ended",
        "engine/worker.py",
        "                        driver.cancel_safe(timeout=5)",
        "                        pass",
        "test_worker.py::test_a_connection_that_is_lost_keeps_no_interrupt_from_the_others",
    ),
    Guard(
        "the window of time",
        "work goes on in the hours in which it must not",
        "engine/pacing.py",
        "self._windows and not any(window.is_open(now) for window in self._windows)",
        "False",
        "test_pacing.py::test_work_begins_when_the_window_opens_and_waits_until_then",
    ),
    Guard(
        "the limit of records per second",
        "workers go as fast as they can, whatever is asked of them",
        "engine/pacing.py",
        "self._free = begin + rows / self.rows_per_second\n            return begin, self._free",
        "return begin, self._free",
        "test_pacing.py::test_all_workers_together_stay_under_the_limit_of_records",
    ),
    Guard(
        "workers wait while the server is not well",
        "a replica falls behind for hours, or a disk fills up",
        "engine/pacing.py",
        'return self._verdict if self._verdict.level == "hold" else None',
        "return None",
        "test_health.py::test_a_long_transaction_of_somebody_else_holds_until_it_ends",
    ),
    Guard(
        "workers rest where the server is slow",
        "the application waits for us as often as before",
        "engine/pacing.py",
        "if self._rest and turn.seconds:",
        "if False:",
        "test_health.py::test_slow_takes_one_chunk_and_rests_the_longer_the_longer_it_is_so",
    ),
    Guard(
        "waiting has an end",
        "a migration hangs for ever on what nobody mends",
        "engine/pacing.py",
        "if minutes >= self._limits.hold_minutes:",
        "if False:",
        "test_health.py::test_who_has_waited_long_enough_gives_up_and_can_be_resumed",
    ),
    Guard(
        "workers that wait hear of a pause",
        "a paused migration's program waits on for its window",
        "engine/pacing.py",
        'return self._watch.desired() in {"run", None}',
        "return True",
        "test_pacing.py::test_outside_of_its_window_a_migration_waits_and_status_says_until_when",
    ),
    Guard(
        "every entry is judged",
        "stock at a stranger's location hides behind an entry at one of the company's own",
        "engine/shapes/allocation_json.py",
        "CASE WHEN im_g.first = im_g.last THEN im_g.first ",
        "CASE WHEN true OR im_g.last IS NULL THEN im_g.first ",
        "test_json_templates.py::"
        "test_what_holds_an_entry_is_left_as_it_is_and_judged_by_all_of_them",
    ),
    Guard(
        "what lies beside the record is kept",
        "an order that comes between plan and chunk makes our own entry look like a stranger's",
        "engine/chunk.py",
        "                   OR reserved IS DISTINCT FROM planned_reserved)",
        "                   )",
        "test_json_templates.py::"
        "test_what_was_reserved_beside_the_record_after_the_plan_goes_back_too",
    ),
)
