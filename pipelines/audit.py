"""Trust nothing: ``python pipelines/audit.py trace=FILE data.path=FILE``.

Explains every cent of a trace from the price file alone, or names the first row that does not add
up. ``check=free_lunch`` plays scripted policies on a market without drift instead, under the rules
of ``env=PRESET``: nobody may earn. Exit code 0: nothing found; 1: something, which is printed.
"""

from pipelines.ending import end_plainly

if __name__ == "__main__":
    end_plainly()

import sys

from pipelines.config import AuditConfig, load_config

if __name__ == "__main__":
    # Before what loads for seconds: --help and a mistake are answered at once.
    CONFIG = load_config("audit", sys.argv[1:])

from pathlib import Path

from envs.assets import parse_assets
from envs.bar_files import default_bars_path
from pipelines.auditing.audit_report import explain, summary
from pipelines.auditing.audit_rows import DoesNotAddUp, read_sidecar
from pipelines.auditing.trace_audit import audit_trace
from pipelines.refusal import plain_refusals


def main(cfg: AuditConfig) -> int:
    """Make the check that was asked for, print what it found, return the exit code."""
    with plain_refusals():
        return check_trace(cfg) if cfg.check == "trace" else check_free_lunch(cfg)


def check_trace(cfg: AuditConfig) -> int:
    """Print one page on a trace that adds up, or the first row that does not.

    Raises:
        OSError: for a file that cannot be read.
        ValueError: for one that cannot be audited; for a trace of a generated market.
    """
    made_on = _made_on(Path(str(cfg.trace)))
    if made_on.startswith("synthetic/"):
        why = "a generated market: there is no price file to hold it against"
        raise ValueError(f"{cfg.trace}: was made on {made_on}, {why}")
    prices: Path | dict[str, str]
    if cfg.data.assets is not None:
        prices = dict(parse_assets(cfg.data.assets))
    else:
        prices = default_bars_path() if cfg.data.path is None else Path(cfg.data.path)
    try:
        totals = audit_trace(str(cfg.trace), prices, fill_gap_bars=cfg.data.fill_gap_bars)
    except DoesNotAddUp as verdict:
        print(explain(verdict.finding, str(cfg.trace)))
        own = (made_on, Path(made_on).stem)  # of a folder of bars without the .parquet
        if made_on and isinstance(prices, Path) and prices.name not in own:
            print(f"  bars      of {prices.name}; the trace was made on {made_on}: see data.path")
        return 1
    print(summary(totals, str(cfg.trace)))
    return 0


def _made_on(trace: Path) -> str:
    """The name of the bars that stands beside a trace; of several markets all, with + between."""
    data = read_sidecar(trace)["data"]
    return str(data.get("file", "")) if isinstance(data, dict) else ""


def check_free_lunch(cfg: AuditConfig) -> int:
    """Print what every policy earned; the largest z decides."""
    # Loads for seconds what it plays on; who checks a trace needs nothing of it.
    from pipelines.auditing.free_lunch import MAX_Z, as_table, play_lattice

    rows = play_lattice(cfg.env, episodes=cfg.episodes, seed=cfg.seed)
    print(as_table(rows))
    best = max(rows, key=lambda row: row.z)
    if not any(row.entries for row in rows):
        print("no verdict: no policy could place an order; see env.min_units and env.max_units")
        return 1
    verdict = "passed" if best.z <= MAX_Z else "FAILED"
    print(
        f"{verdict}: {len(rows)} policies, {cfg.episodes:,} episodes each; the largest z is "
        f"{best.z:.2f} ({best.policy}), at most {MAX_Z} is chance"
    )
    return 0 if best.z <= MAX_Z else 1


if __name__ == "__main__":
    raise SystemExit(main(CONFIG))
