"""Guards of a ledger in a bucket: one order of transactions, replicas that hold the same, and the store's clock."""

from __future__ import annotations

from functools import partial

from mutants.guard import Edit, Guard, guard

_LOG = "ledger/bucket/log.py"
_REPLICA = "ledger/bucket/replica.py"
_OF_LOG = "ledger/test_bucket_log.py"
_OF_REPLICA = "ledger/test_bucket_replica.py"
_OF_SNAPSHOTS = "ledger/test_bucket_snapshots.py"
_OF_PACE = "ledger/test_bucket_pace.py"
_OF_NEARBY = "ledger/test_bucket_nearby.py"

_guard = partial(guard, database="bucket")

GUARDS: tuple[Guard, ...] = (
    _guard(
        "bucket-created-once",
        "An object of the log is created once, and never written over",
        "ledger/bucket/objects.py:Bucket.create",
        'mode="create"',
        'mode="overwrite"',
        f"{_OF_LOG}::test_of_writers_of_one_number_at_the_same_time_one_wins",
    ),
    _guard(
        "bucket-nonce",
        "An entry that is there already is a process's own only if it has its nonce",
        _LOG + ":Log._create",
        "is_own = _read_entry(name, _unpack(*there[0])[0]).nonce == nonce",
        "is_own = True",
        f"{_OF_LOG}::test_an_entry_of_another_writer_is_never_taken_for_an_own_one",
    ),
    _guard(
        "bucket-read-back",
        "An entry whose creation was not answered, or refused, is read before it counts as not written",
        _LOG + ":Log._create",
        "there = self._read_next(max(self._ahead, _FEW))",
        "there = self._read_next(0)",
        f"{_OF_LOG}::test_whatever_is_answered_to_a_creation_the_entry_is_there_once_and_its_writers",
    ),
    _guard(
        "bucket-follows",
        "An entry has to follow the one before it",
        _LOG + ":Log._follow",
        "if entry.after != self.nonce:",
        "if not entry.nonce:",
        f"{_OF_LOG}::test_a_log_whose_last_entry_was_deleted_and_written_anew_is_refused",
        f"{_OF_LOG}::test_an_entry_of_another_ledger_is_refused",
    ),
    _guard(
        "bucket-hole",
        "A log that goes on after a missing entry is refused",
        _REPLICA + ":Replica.load",
        "            self._log.check_end()\n",
        "",
        f"{_OF_REPLICA}::test_a_log_with_a_hole_is_refused_when_it_is_opened",
    ),
    _guard(
        "bucket-snapshots-log",
        "A snapshot is used only beside the log that it was made of",
        _REPLICA + ":Replica.load",
        "                self._log.check_start()\n",
        "                pass\n",
        f"{_OF_SNAPSHOTS}::test_the_snapshot_of_another_ledger_is_refused",
        f"{_OF_SNAPSHOTS}::test_a_log_that_was_deleted_beside_its_snapshots_is_refused",
    ),
    _guard(
        "bucket-whole-packs",
        "A pack has all of its hundred entries",
        _LOG + ":Log._make_pack",
        "if len(self._lines) == PACK:",
        "if self._lines:",
        f"{_OF_LOG}::test_a_reader_that_began_in_the_middle_makes_no_pack_of_what_it_has_read",
    ),
    _guard(
        "bucket-overtaken",
        "A transaction that another process has overtaken runs again",
        _REPLICA + ":Replica._publish",
        '                self._others_write = True\n                raise Behind("another process has committed first")\n',
        "                self.connection.rollback()\n                self._catch_up()\n",
        f"{_OF_REPLICA}::test_a_transaction_that_another_has_overtaken_runs_again_on_what_is_new",
        f"{_OF_REPLICA}::test_a_read_that_another_has_overtaken_runs_again",
        also=(
            Edit(
                _REPLICA + ":Replica._publish",
                '                if self._catch_up():\n                    raise Behind("another process has committed first")\n',
                "                self._catch_up()\n",
            ),
        ),
    ),
    _guard(
        "bucket-reads",
        "A transaction that has only read has seen what was committed before it",
        _REPLICA + ":Replica._publish",
        "elif self._read_at < self._began_at:",
        "elif not self._log.number:",
        f"{_OF_REPLICA}::test_what_one_process_has_committed_another_reads_at_once",
        f"{_OF_REPLICA}::test_a_read_that_another_has_overtaken_runs_again",
    ),
    _guard(
        "bucket-raised-on-old",
        "A transaction that raised runs again if it had not seen what others have committed",
        _REPLICA + ":Replica.run",
        "if time.monotonic() > give_up or not self._was_behind():",
        "if give_up:",
        f"{_OF_REPLICA}::test_a_transaction_that_raised_on_what_is_old_runs_again",
    ),
    _guard(
        "bucket-position",
        "A replica goes on where its database is, whatever became of the last transaction",
        _REPLICA + ":Replica._start",
        "if (number, nonce) != (self._log.number, self._log.nonce):",
        "if not self._log.number:",
        f"{_OF_REPLICA}::test_a_thread_that_is_interrupted_at_any_step_leaves_a_replica_that_is_right",
    ),
    _guard(
        "bucket-begins-anew",
        "A transaction counts as begun before what it has not read only if it is the same one that runs again",
        _REPLICA + ":Replica.run",
        "        self._overtaken = False\n",
        "",
        f"{_OF_NEARBY}::test_a_transaction_that_was_given_up_leaves_none_after_it_on_what_is_old",
    ),
    _guard(
        "bucket-nearby-follows",
        "What is on the machine's disk is taken only if it follows what was read last",
        _LOG + ":Log.read_known",
        "if entry.after != self.nonce:",
        "if not entry.nonce:",
        f"{_OF_NEARBY}::test_entries_of_a_ledger_that_was_there_before_are_ignored",
    ),
    _guard(
        "bucket-nearby-created",
        "What is on the machine's disk was created in the log before",
        _LOG + ":Log.append",
        "        body = _pack([line])\n",
        "        body = _pack([line])\n        if self._nearby is not None:\n            self._nearby.keep(self.number + 1, body)\n",
        f"{_OF_NEARBY}::test_what_was_not_committed_is_not_nearby",
    ),
    _guard(
        "bucket-nearby-own",
        "A folder that others of the machine can write to is not used",
        "ledger/bucket/nearby.py:Nearby._may_be_used",
        "found.st_uid == os.getuid() and (found.st_mode & 0o170077) == 0o040000",
        "found.st_uid == os.getuid()",
        f"{_OF_NEARBY}::test_a_folder_that_others_can_write_to_or_read_is_not_used",
        f"{_OF_NEARBY}::test_a_link_to_a_folder_is_not_used",
    ),
    _guard(
        "bucket-deleted-rows",
        "What one process has deleted is deleted in the others",
        "ledger/bucket/copied_table.py:CopiedTable.apply",
        "        connection.executemany(self._delete, changes.deleted)\n",
        "",
        f"{_OF_REPLICA}::test_deleted_rows_are_deleted_everywhere",
    ),
    _guard(
        "bucket-exchange",
        "Rows that have exchanged their unique values are copied",
        "ledger/bucket/copied_table.py:CopiedTable.apply",
        "for name in self._unique:",
        "for name in ():",
        f"{_OF_REPLICA}::test_unique_values_that_rows_have_exchanged_are_copied",
    ),
    _guard(
        "bucket-all-columns",
        "A release that does not know all columns makes no snapshot",
        _REPLICA + ":Replica.load",
        " and self._knows_all_columns()",
        "",
        "ledger/test_bucket_schema.py::test_a_release_that_does_not_know_all_columns_makes_no_snapshot",
    ),
    _guard(
        "bucket-clock",
        "What has lapsed is decided by the store's clock, and by no machine's",
        _REPLICA + ":Replica.__init__",
        "self.connection.create_function(NOW, 0, self._clock.now)",
        "self.connection.create_function(NOW, 0, time.time)",
        f"{_OF_REPLICA}::test_the_clock_of_the_ledger_is_not_the_machines",
    ),
    _guard(
        "bucket-clock-again",
        "The store's clock is measured again before two clocks have drifted apart",
        "ledger/bucket/clock.py:StoreClock.must_be_measured",
        "since_boot() - self._measured_at > _KEEPS",
        "self._measured_at == -math.inf",
        "ledger/test_bucket_clock.py::test_a_machine_whose_clock_runs_fast_or_slow_is_measured_again",
    ),
    _guard(
        "bucket-lead",
        "A slot is taken so far ahead that the commit before it is done when it comes up",
        "ledger/bucket/pace.py:BucketPace._take_block",
        "ahead=self.lead",
        "ahead=0.0",
        f"{_OF_PACE}::test_the_first_slot_comes_up_when_the_commit_of_what_takes_it_is_done",
    ),
    _guard(
        "bucket-push-back",
        "A pause that Sendoso asks for holds for the slots that are taken, too",
        "ledger/bucket/pace.py:BucketPace.push_back",
        "            self._slots.clear()\n",
        "            pass\n",
        f"{_OF_PACE}::test_a_push_back_drops_the_slots_that_are_taken",
    ),
    _guard(
        "bucket-fork",
        "A replica is not used on both sides of a fork",
        "ledger/bucket/engine.py:make_engine",
        "if os.getpid() != process:",
        "if not process:",
        f"{_OF_REPLICA}::test_a_ledger_that_was_opened_before_a_fork_is_refused_in_the_child",
    ),
    _guard(
        "bucket-is-there",
        "A bucket that is missing is not taken for one that has no more entries",
        "ledger/bucket/objects.py:Bucket._call",
        "if any(code in str(error) for code in _NO_BUCKET):",
        "if not str(error):",
        "sending/test_sending_s3.py::test_a_bucket_that_is_deleted_under_a_process_stops_it",
    ),
)
