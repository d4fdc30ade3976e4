"""Triggers that watch every write of the service: who wrote, to which trial, and who held its lease at that time.

Only the chaos run installs them. Findings are kept in `chaos.findings`; no write is rejected.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Engine, text

from paretofit.db import states

_SCHEMA = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.findings (
    kind text NOT NULL, about text NOT NULL, detail text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE chaos.legal (machine text, source text, target text, PRIMARY KEY (machine, source, target));

CREATE FUNCTION chaos.found(kind text, about text, detail text) RETURNS void LANGUAGE sql AS
$$ INSERT INTO chaos.findings (kind, about, detail)
   VALUES (kind, about, detail || ' by ' || current_setting('application_name')) $$;

CREATE FUNCTION chaos.watch_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> NEW.state AND NOT EXISTS (
        SELECT FROM chaos.legal WHERE machine = TG_TABLE_NAME AND source = OLD.state AND target = NEW.state
    ) THEN
        PERFORM chaos.found('illegal_transition', NEW.id, OLD.state || ' -> ' || NEW.state);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_state AFTER UPDATE ON trials FOR EACH ROW EXECUTE FUNCTION chaos.watch_state();
CREATE TRIGGER chaos_state AFTER UPDATE ON searches FOR EACH ROW EXECUTE FUNCTION chaos.watch_state();
CREATE TRIGGER chaos_state AFTER UPDATE ON datasets FOR EACH ROW EXECUTE FUNCTION chaos.watch_state();

CREATE FUNCTION chaos.watch_lease() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    writer text := current_setting('application_name');
    claimed boolean := NEW.state = 'running' AND NEW.lease_epoch = OLD.lease_epoch + 1;
BEGIN
    IF NEW.lease_epoch < OLD.lease_epoch OR (NEW.lease_epoch <> OLD.lease_epoch AND NOT claimed) THEN
        PERFORM chaos.found('stale_write', NEW.id, 'epoch ' || OLD.lease_epoch || ' -> ' || NEW.lease_epoch);
    END IF;
    IF claimed AND OLD.state <> 'queued' THEN
        PERFORM chaos.found('claimed_twice', NEW.id, 'epoch ' || NEW.lease_epoch || ' while ' || OLD.state);
    END IF;
    IF starts_with(writer, 'train-') AND NOT claimed
       AND (OLD.state <> 'running' OR OLD.lease_owner IS DISTINCT FROM writer) THEN
        PERFORM chaos.found(
            'stale_write', NEW.id, 'trial ' || OLD.state || ' held by ' || coalesce(OLD.lease_owner, 'nobody')
        );
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_lease AFTER UPDATE ON trials FOR EACH ROW EXECUTE FUNCTION chaos.watch_lease();

CREATE FUNCTION chaos.watch_report() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    trial record;
BEGIN
    SELECT state, lease_owner, lease_epoch INTO trial FROM trials WHERE id = NEW.trial_id;
    IF FOUND AND
       (trial.state <> 'running' OR trial.lease_owner IS DISTINCT FROM current_setting('application_name')) THEN
        PERFORM chaos.found('stale_write', NEW.trial_id, TG_TABLE_NAME || ' of a trial that is ' || trial.state);
    END IF;
    IF TG_TABLE_NAME = 'logs' THEN
        IF NEW.epoch <> trial.lease_epoch THEN
            PERFORM chaos.found(
                'stale_write', NEW.trial_id, 'log of epoch ' || NEW.epoch || ' in ' || trial.lease_epoch
            );
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_report AFTER INSERT OR UPDATE ON metrics FOR EACH ROW EXECUTE FUNCTION chaos.watch_report();
CREATE TRIGGER chaos_report AFTER INSERT OR UPDATE ON points FOR EACH ROW EXECUTE FUNCTION chaos.watch_report();
CREATE TRIGGER chaos_report AFTER INSERT OR UPDATE ON artifacts FOR EACH ROW EXECUTE FUNCTION chaos.watch_report();
CREATE TRIGGER chaos_report AFTER INSERT OR UPDATE ON logs FOR EACH ROW EXECUTE FUNCTION chaos.watch_report();
"""


def install(engine: Engine) -> None:
    """Install the triggers."""
    machines = {"trials": states.TRIAL, "searches": states.SEARCH, "datasets": states.DATASET}
    legal = [
        {"machine": name, "source": source, "target": target}
        for name, machine in machines.items()
        for source, targets in machine.items()
        for target in targets
    ]
    with engine.begin() as connection:
        connection.exec_driver_sql(_SCHEMA)
        connection.execute(text("INSERT INTO chaos.legal VALUES (:machine, :source, :target)"), legal)


def findings(engine: Engine) -> dict[str, list[str]]:
    """The findings by kind: stale_write, claimed_twice, illegal_transition."""
    by_kind = defaultdict(list)
    with engine.connect() as connection:
        for row in connection.execute(text("SELECT kind, about, detail FROM chaos.findings ORDER BY at")):
            by_kind[row.kind].append(f"{row.about}: {row.detail}")
    return by_kind
