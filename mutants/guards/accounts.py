"""Guards of whose a send is, and of the database: accounts, identities, versions, and commits that last."""

from __future__ import annotations

from mutants.guard import Guard, guard

_SENDS = "ledger/sends.py:SendLedger."
_BINDINGS = "ledger/bindings.py:Bindings."
_LEDGER = "ledger/__init__.py:Ledger."
_TWO_GIFTS = "sending/test_two_gifts.py"
_APART = "ledger/test_ledger_accounts_apart.py::test_no_query_of_an_account_shows_or_changes_a_send_of_another"
_KEYS = "ledger/test_ledger_accounts_apart.py::test_no_two_recipients_have_one_key"


def _filter(name: str, place: str, old: str, new: str) -> Guard:
    return guard(f"account-of-{name}", f"`{place.partition(':')[2]}` keeps to its account", place, old, new, _APART)


GUARDS: tuple[Guard, ...] = (
    _filter(
        "find",
        _SENDS + "find",
        "self._read(sends.c.account == account, _named([send_id]))",
        "self._read(_named([send_id]))",
    ),
    _filter(
        "read-prefix",
        _SENDS + "read_prefix",
        "self._read(sends.c.account == account, sends.c.send_key.like",
        "self._read(sends.c.send_key.like",
    ),
    _filter(
        "note-status",
        _SENDS + "note_status",
        "self._update(sends.c.account == account, _named([send_id]),",
        "self._update(_named([send_id]),",
    ),
    _filter(
        "note-statuses",
        _SENDS + "note_statuses",
        "these = [sends.c.account == account, _named(some)]",
        "these = [_named(some)]",
    ),
    _filter(
        "progress-of",
        _SENDS + "progress_of",
        "self._progress(sends.c.account == account, _named(some))",
        "self._progress(_named(some))",
    ),
    _filter(
        "scopes",
        _SENDS + "scopes",
        ".where(scopes.c.account == account)",
        "",
    ),
    _filter(
        "scope-counts",
        _SENDS + "scope_counts",
        "            .where(sends.c.account == account)\n",
        "",
    ),
    _filter(
        "batch-exists",
        _SENDS + "batch_exists",
        "self._exists(batches.c.account == account, batches.c.batch_id == batch_id)",
        "self._exists(batches.c.batch_id == batch_id)",
    ),
    _filter(
        "scope-exists",
        _SENDS + "scope_exists",
        "self._exists(scopes.c.account == account, scopes.c.dedupe_scope == dedupe_scope)",
        "self._exists(scopes.c.dedupe_scope == dedupe_scope)",
    ),
    _filter(
        "check-scope",
        _SENDS + "_check_recipient_key",
        "this_scope = (scopes.c.account == batch.account, scopes.c.dedupe_scope == batch.dedupe_scope)",
        "this_scope = (scopes.c.dedupe_scope == batch.dedupe_scope,)",
    ),
    _filter(
        "perhaps-sent",
        _SENDS + "perhaps_sent",
        "these = (sends.c.account == batch.account, sends.c.batch_id == batch.batch_id, ",
        "these = (sends.c.batch_id == batch.batch_id, ",
    ),
    _filter(
        "bind",
        _BINDINGS + "bind",
        ".where(sends.c.account == account, sends.c.bound_id == bound_id)",
        ".where(account.is_not(None), sends.c.bound_id == bound_id)",
    ),
    _filter(
        "bindings",
        _BINDINGS + "_read",
        "select(sends).where(sends.c.account == account, *where)",
        "select(sends).where(*where)",
    ),
    guard(
        "account-in-key",
        "A recipient of another account is another recipient",
        _LEDGER + "send_key",
        'return self.identity.digest("send", account, dedupe_scope, recipient_key)',
        'return self.identity.digest("send", dedupe_scope, recipient_key)',
        _KEYS,
    ),
    guard(
        "account-in-replacement",
        "A replaced send of another account is another send",
        _LEDGER + "send_key",
        'return self.identity.digest("resend", account, resend_of)',
        'return self.identity.digest("resend", resend_of)',
        _KEYS,
    ),
    guard(
        "parts-of-key",
        "Account, scope and recipient cannot run into each other in a key",
        "ledger/database.py:Identity.digest",
        'f"{len(part)}:{part}"',
        "part",
        _KEYS,
    ),
    guard(
        "mailbox",
        "One mailbox is one recipient, in whatever case its address is written",
        "models/text.py:normalise_key",
        'return read_key(text)[0] if text is not None and "@" in text else text',
        "return text",
        "test_models.py::test_spellings_of_one_key_are_one_key",
    ),
    guard(
        "account-in-batch",
        "Two accounts with the same DAG, task and run have batches of their own",
        "hooks/recorded.py:task_hash",
        'parts = (config.account, config.deployment or "", *map(str, ids))',
        'parts = (config.deployment or "", *map(str, ids))',
        f"{_TWO_GIFTS}::test_two_deployments_with_the_same_names_have_batches_of_their_own",
    ),
    guard(
        "deployment-in-batch",
        "Two deployments with the same DAG, task and run have batches of their own",
        "hooks/recorded.py:task_hash",
        'parts = (config.account, config.deployment or "", *map(str, ids))',
        "parts = (config.account, *map(str, ids))",
        f"{_TWO_GIFTS}::test_two_deployments_with_the_same_names_have_batches_of_their_own",
    ),
    guard(
        "scope-trimmed",
        "A scope is the same with blanks around it",
        "runs/base.py:make_batch",
        'scope = same_name(text("dedupe_scope", dedupe_scope) or "")',
        'scope = str(dedupe_scope or "")',
        "runs/test_run_scopes.py::test_a_scope_with_blanks_around_it_or_decomposed_letters_is_the_same_scope",
    ),
    guard(
        "scope-invisible",
        "A scope that looks like another one is refused",
        "runs/base.py:make_batch",
        "    if problem is not None:\n",
        "    if problem is None and not scope:\n",
        "runs/test_run_scopes.py::test_a_scope_that_looks_like_another_one_is_refused",
    ),
    guard(
        "one-client",
        "Another client does not send under an account that it does not name",
        "ledger/accounts.py:_look",
        "elif not named and first.client != client:",
        "elif False:",
        f"{_TWO_GIFTS}::test_a_second_client_id_on_the_same_host_has_to_name_its_account",
    ),
    guard(
        "one-client-at-once",
        "Of two clients that register an account at once, one is refused",
        "ledger/accounts.py:Accounts.register",
        "                _look(connection, account, client, named)  # two processes may insert at once; only one row stays\n",
        "",
        f"{_TWO_GIFTS}::test_of_two_clients_that_register_an_account_at_once_one_is_refused",
    ),
    guard(
        "account-spelling",
        "An account in another capitalisation is not another account",
        "ledger/accounts.py:_look",
        "if others and account not in spelt:",
        "if False:",
        f"{_TWO_GIFTS}::test_an_account_that_the_ledger_knows_under_another_spelling_is_refused",
    ),
    guard(
        "newer-ledger",
        "A ledger that only a newer release may use is refused",
        "ledger/database.py:Database._open",
        "if row.schema_version > schema.SCHEMA_VERSION:",
        "if row.schema_version > schema.SCHEMA_VERSION + 99:",
        "ledger/test_ledger_schema.py::test_a_ledger_of_a_newer_version_is_refused_and_left_alone",
    ),
    guard(
        "usable-since",
        "Releases that would misread the tables are shut out when the tables are upgraded",
        "ledger/database.py:Database._add_what_is_new",
        "usable = max(usable_since, schema.USABLE_SINCE)",
        "usable = usable_since",
        "ledger/test_ledger_schema.py::test_a_ledger_of_version_1_is_upgraded_in_place",
    ),
    guard(
        "one-ledger",
        "Of several processes that create a ledger, one does",
        "ledger/database.py:Database._one_at_a_time",
        '            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATE_LOCK})\n',
        "            pass\n",
        "ledger/test_ledger_schema.py::test_eight_processes_that_open_a_new_database_at_once_create_one_ledger",
        database="postgresql",
    ),
    guard(
        "durable-postgresql",
        "PostgreSQL is asked for commits that last",
        "ledger/sessions.py:_prepare_postgresql",
        "CASE {asked} WHEN 'off' THEN 'on' ELSE {asked} END",
        "CASE {asked} WHEN 'off' THEN 'off' ELSE {asked} END",
        "ledger/test_ledger_schema.py::test_postgresql_asks_for_durable_commits_where_the_server_does_not",
        database="postgresql",
    ),
    guard(
        "durable-sqlite",
        "SQLite is asked for commits that last",
        "ledger/sessions.py:_prepare_sqlite",
        '"synchronous=FULL"',
        '"synchronous=NORMAL"',
        "ledger/test_ledger_schema.py::test_sqlite_is_asked_for_durable_commits",
    ),
    guard(
        "durable-mysql",
        "A MySQL server that keeps commits in its own memory is refused",
        "ledger/server_checks.py:check_server",
        'if str(found.get("flush")) == "0":',
        "if False:",
        "ledger/test_ledger_server_checks.py::test_a_mysql_that_keeps_commits_in_its_own_memory_is_refused",
        database="mysql",
    ),
    guard(
        "standby",
        "A standby is no ledger",
        "ledger/server_checks.py:check_server",
        'if found["standby"]:',
        "if False:",
        "ledger/test_ledger_server_checks.py::test_a_standby_is_refused",
        database="postgresql",
    ),
    guard(
        "forgotten-sqlite",
        "A SQLite database that would be forgotten is refused",
        "ledger/sessions.py:_prepare_sqlite",
        "if not path.is_absolute() or path.parent == Path(path.anchor):",
        "if path == Path():",
        "ledger/test_ledger_schema.py::test_a_sqlite_database_that_would_be_forgotten_is_refused",
    ),
    guard(
        "extra-is-json",
        "A connection whose extra cannot be read sends nothing",
        "hooks/connections.py:check_extra",
        "    except ValueError as error:\n",
        "    except ValueError as error:\n        return\n",
        "client/test_client_config.py::test_an_extra_that_is_not_json_is_refused",
    ),
)
