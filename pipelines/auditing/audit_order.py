"""That no row of a trace is missing, doubled or out of place: frames, lanes, episodes and bars."""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from pipelines.auditing.audit_rows import DoesNotAddUp, Finding, Row
from pipelines.auditing.double_entry import Account, Terms
from pipelines.auditing.price_file import PriceFile


class Lane:
    """Where one account of the batch stands after its last row."""

    __slots__ = (
        "account", "at", "begun", "close", "drawdown", "end", "episode", "equity", "last_row",
        "path_step", "step", "time_ns",
    )  # fmt: skip

    def __init__(self, terms: Terms) -> None:
        self.episode, self.step, self.path_step, self.at = 0, -1, -1, -1
        self.last_row, self.time_ns = 0, 0
        self.begun = False
        self.end = ""  # terminated, truncated: of the last row
        self.fresh(terms)

    def fresh(self, terms: Terms) -> None:
        """A new account (R-EPISODE-6)."""
        self.account = Account(terms)
        self.equity, self.close, self.drawdown = self.account.cash, 0.0, 0.0


class Order:
    """Expects every row at its place, and remembers where each lane is.

    Args:
        terms: the parameters.
        prices: the bars.
        kept: numbers of the lanes that a thinned trace holds; None: all.
    """

    def __init__(self, terms: Terms, prices: PriceFile, kept: Sequence[int] | None) -> None:
        self.terms, self.prices, self.kept = terms, prices, kept
        self.lanes: dict[int, Lane] = {}
        self.finished: set[int] = set()
        # Whether an account that ended begins anew, as in training, or stays out, as in a replay.
        self.restarts: bool | None = None if terms.flatten_at_end else True
        self._numbers: list[int] = []
        self._turn, self._time, self._base = -1, 0, 0
        self._first_round = True
        self._clocks: dict[int, tuple[int, int]] = {}
        self._early: list[tuple[Finding, int]] = []  # and the row of the price file
        # Tiles of which no row came when it was their turn: what to say if one comes, and if none.
        self._silent: dict[int, tuple[Finding, Finding]] = {}

    def place(self, number: int, row: Row, at: int) -> Lane:
        """The lane of a row, moved to it.

        Raises:
            DoesNotAddUp: if the row is not the one that must come here.
        """
        self.number, self.row = number, row
        lane = self._whose(at)
        self._count_episode(lane)
        self._walk(lane, at)
        lane.last_row, lane.time_ns, lane.begun = number, row.timestamp, True
        return lane

    def is_last(self, lane: Lane) -> bool:
        """Whether the row's bar is the last of its path, as far as can be known (R-EPISODE-8)."""
        if lane.path_step + 1 >= self.terms.episode_bars:
            return True
        # A tile cut short by the data: nothing is held any more, whether or not it was before.
        row, tile = self.row, self.terms.flatten_at_end
        return tile and (row.exit_reason == "end" or bool(row.truncated and not row.position))

    def close_row(self, lane: Lane) -> None:
        """Take note of how the row ended."""
        row = self.row
        lane.end = "terminated" if row.terminated else "truncated" if row.truncated else ""
        if lane.end == "truncated" and lane.path_step + 1 < self.terms.episode_bars:
            why = f"step {lane.path_step + 1} of {self.terms.episode_bars}, and more bars follow"
            early = self._finding("truncated", False, True, "R-EPISODE-8", why)
            self._early.append((early, lane.at))

    def finish(self, visited: np.ndarray) -> None:
        """What can only be said when all rows have been seen.

        Args:
            visited: bool [N], bars of the price file that the trace shows.

        Raises:
            DoesNotAddUp: for a tile that ended too early, or not at all.
        """
        for finding, at in self._early:
            if at < self.prices.last[at] and visited[at + 1]:
                raise DoesNotAddUp(finding)
        if self.terms.flatten_at_end and not self.restarts:
            for number, lane in self.lanes.items():
                if not lane.end:
                    raise DoesNotAddUp(self._unended(number))

    def refuse(self, column: str, expected: Any, found: Any, rule: str, why: str = "") -> NoReturn:
        """Raise `DoesNotAddUp` for a column of the present row."""
        raise DoesNotAddUp(self._finding(column, expected, found, rule, why))

    def _finding(self, column: str, expected: Any, found: Any, rule: str, why: str) -> Finding:
        row = self.row
        return Finding(self.number, row.lane, row.timestamp, column, expected, found, rule, why)

    def _whose(self, at: int) -> Lane:
        """The lane whose turn it is; frames count all lanes, in the order of time, then lane."""
        row = self.row
        if row.lane in self._silent:
            raise DoesNotAddUp(self._silent[row.lane][0])
        if self.number == 1:
            self._base = (row.env_frame or 0) - self._nth_lane(0)
        if self._first_round and self._round_is_over(at):
            self._first_round = False
            self._turn = len(self._numbers) - 1
        number = self._nth_lane(len(self._numbers)) if self._first_round else self._next_turn()
        frame = self._base + self._time * self._num_lanes() + number
        if row.env_frame != frame:
            self._blame_the_ending()
            self.refuse("env_frame", frame, row.env_frame, "R-TRACE-6", f"lane {number} is next")
        if row.lane != number:
            self.refuse("lane", number, row.lane, "R-TRACE-6", f"env_frame is {frame}")
        if self._first_round:
            self._numbers.append(number)
            self.lanes[number] = Lane(self.terms)
        return self.lanes[number]

    def _blame_the_ending(self) -> None:
        """If the row goes on with a tile that was said to end early: it did not."""
        row = self.row
        if row.env_frame is None or row.lane is None:
            return
        fits = (row.env_frame - self._base - row.lane) % self._num_lanes() == 0
        for finding, _ in self._early:
            if fits and finding.lane == row.lane:
                raise DoesNotAddUp(finding)

    def _nth_lane(self, n: int) -> int:
        if self.kept is None:
            return n
        return self.kept[n] if n < len(self.kept) else -1

    def _round_is_over(self, at: int) -> bool:
        """Whether every lane has had its first row."""
        if self.kept is not None:
            return len(self._numbers) == len(self.kept)
        if not self.terms.flatten_at_end:
            return len(self._numbers) == self.terms.paths * self.terms.accounts
        # The number of tiles stands nowhere: two of three must say that a lane is back. In training
        # the first may have ended with its first row, and is back with its second episode.
        if self._numbers[:1] == [self.row.lane] and self.row.episode == 1:
            return True
        going = next((n for n in self._numbers if not self.lanes[n].end), None)
        if going is None:
            return False
        back = self.row.lane == going, self.row.step == 1, at == self.lanes[going].at + 1
        return sum(back) >= 2

    def _num_lanes(self) -> int:
        if self.kept is None and not self._first_round:
            return len(self._numbers)
        return int(self.terms.paths * self.terms.accounts)

    def _next_turn(self) -> int:
        """The next lane that still plays."""
        for _ in range(len(self._numbers)):
            self._turn += 1
            if self._turn == len(self._numbers):
                self._turn, self._time = 0, self._time + 1
            number = self._numbers[self._turn]
            if number not in self.finished and not self._stays_out(number):
                return number
        self.refuse("env_frame", None, self.row.env_frame, "R-EPISODE-9", "all lanes have ended")

    def _stays_out(self, number: int) -> bool:
        """Whether the lane's last row was its very last; the first such lane's next turn tells."""
        frame = self._base + self._time * self._num_lanes() + number
        if not self.lanes[number].end:
            return self._is_silent(number, frame)
        if self.restarts is None:
            self.restarts = self.row.env_frame == frame
        if self.restarts and self._early and self.terms.flatten_at_end:
            raise DoesNotAddUp(self._early[0][0])
        if not self.restarts:
            self.finished.add(number)
        return not self.restarts

    def _is_silent(self, number: int, frame: int) -> bool:
        """Whether the row is a later lane's: this one's ending, or its row, is not in the file."""
        row = self.row
        if not self.terms.flatten_at_end or self.restarts or row.env_frame == frame:
            return False
        if row.env_frame is None or row.lane not in self.lanes or row.lane in self.finished:
            return False
        ahead = self._base + self._time * self._num_lanes() + row.lane - row.env_frame
        if row.env_frame < frame or ahead not in (0, -self._num_lanes()):
            return False
        why = f"lane {number} is next"
        missing = self._finding("env_frame", frame, row.env_frame, "R-TRACE-6", why)
        self._silent[number] = missing, self._unended(number)
        self.finished.add(number)
        return True

    def _unended(self, number: int) -> Finding:
        lane = self.lanes[number]
        why = "no row of this lane follows, yet its tile has not ended"
        return Finding(
            lane.last_row, number, lane.time_ns, "truncated", True, False, "R-EPISODE-8", why
        )

    def _count_episode(self, lane: Lane) -> None:
        """R-TRACE-5, and what a new episode begins with."""
        row = self.row
        ended = bool(lane.end)
        episode, step = lane.episode + ended, 0 if ended else lane.step + 1
        if row.episode != episode:
            self.refuse("episode", episode, row.episode, "R-TRACE-5")
        if row.step != step:
            self.refuse("step", step, row.step, "R-TRACE-5")
        # A ruined account goes on along its path's clock (R-EPISODE-4).
        on_path = lane.begun and lane.path_step + 1 < self.terms.episode_bars
        lane.path_step = lane.path_step + 1 if on_path and lane.end != "truncated" else 0
        lane.episode, lane.step = episode, step
        if ended:
            lane.fresh(self.terms)

    def _walk(self, lane: Lane, at: int) -> None:
        """The bar follows the one before, and lies where episodes may lie."""
        prices, row = self.prices, self.row
        if prices.spans and row.asset not in prices.spans:
            self.refuse("asset", " or ".join(prices.spans), row.asset, "R-TRACE-7")
        if at < 0:
            self.refuse("timestamp", "a bar of the price file", row.timestamp, "R-CLOCK-1")
        if lane.path_step > 0:
            follows = lane.at + 1
            if lane.at == prices.last[lane.at]:
                self.refuse("timestamp", "an end before the hole", row.timestamp, "R-EPISODE-1")
            if at != follows:
                expected = int(prices.time_ns[follows])
                if row.timestamp == expected:
                    market = next(n for n, (_, end) in prices.spans.items() if follows < end)
                    self.refuse("asset", market, row.asset, "R-TRACE-7", "a path keeps its market")
                self.refuse("timestamp", expected, row.timestamp, "R-CLOCK-2")
        else:
            room = 0 if self.terms.flatten_at_end else self.terms.episode_bars - 1
            if at - self.terms.window < prices.first[at] or at + room > prices.last[at]:
                why = "window or episode reach over the segment's end"
                self.refuse("timestamp", "an earlier or later bar", row.timestamp,
                            "R-EPISODE-1", why)  # fmt: skip
        lane.at = at
        if not self.terms.flatten_at_end:
            self._share_clock(at)

    def _share_clock(self, at: int) -> None:
        """R-EPISODE-4: accounts of a path see one bar."""
        path = self.row.lane // self.terms.accounts
        time, shared = self._clocks.get(path, (-1, -1))
        if time == self._time and shared != at:
            expected = int(self.prices.time_ns[shared])
            self.refuse("timestamp", expected, self.row.timestamp, "R-EPISODE-4")
        self._clocks[path] = self._time, at
