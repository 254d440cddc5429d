"""Migrations lead to the schema that the code has, and keep what is stored."""

from __future__ import annotations

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from oversight.store import Store, migrations, opening
from oversight.store.database import Database, parse_address
from oversight.store.schema import (
    claims,
    events,
    heads,
    links,
    metadata,
    rating_events,
    ratings,
    run_members,
    runs,
)


def test_the_migrated_schema_equals_the_metadata(store):
    with store._database.reading() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": migrations.VERSION_TABLE, "compare_server_default": False},
        )
        assert compare_metadata(context, metadata) == []


def test_the_comparison_would_see_a_difference(new_url):
    with Store.open(new_url) as store, store._database.writing() as connection:
        connection.execute(text("DROP INDEX uq_outcomes_complete"))
        context = MigrationContext.configure(
            connection, opts={"version_table": migrations.VERSION_TABLE}
        )
        assert len(compare_metadata(context, metadata)) == 1


def test_the_known_versions_are_those_of_the_migrations_in_order():
    script = ScriptDirectory.from_config(opening.alembic_config())
    found = [revision.revision for revision in script.walk_revisions()]
    assert tuple(reversed(found)) == migrations.REVISIONS
    assert script.get_heads() == [migrations.HEAD]


def test_an_upgrade_from_the_first_version_keeps_what_is_stored(new_url, make):
    debate = make.debate()
    records = [make.question(), debate, make.prompt(), make.turn(debate), make.outcome(debate)]
    database = Database(parse_address(new_url))
    if database.is_sqlite:
        opening._set_wal(database)
    _upgrade(database, migrations.REVISIONS[0])
    database.close()
    with Store.open(new_url) as store:
        store.add(*records)
        _downgrade_to_first(store)
    with Store.open(new_url) as store:
        assert store.transcript(debate.id).turns == (make.turn(debate),)
        assert store.prompt(make.prompt().prompt.id) == make.prompt()
        assert store.claim([debate.id]) == {debate.id}
        assert store.check() == []


def _upgrade(database: Database, revision: str) -> None:
    with database.writing() as connection:
        config = opening.alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _downgrade_to_first(store: Store) -> None:
    """Make the store what the first version left: without claims, events, ratings and chains."""
    with store._database.writing() as connection:
        run_members.drop(connection)
        runs.drop(connection)
        links.drop(connection)
        heads.drop(connection)
        claims.drop(connection)
        events.drop(connection)
        rating_events.drop(connection)
        ratings.drop(connection)
        connection.execute(text("ALTER TABLE debates DROP COLUMN human"))
        connection.execute(text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '0001'"))
