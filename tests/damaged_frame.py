"""Damages of a frame of bars: functions of the frame. Rows count from 1, as in the messages."""

import pandas as pd


def cell(row, column, value):
    """Overwrite a cell."""

    def damage(frame):
        frame.loc[row - 1, column] = value
        return frame

    return damage


def insert(at, like, **values):
    """Insert before row `at` a copy of row `like` with other values."""

    def damage(frame):
        copy = frame.iloc[[like - 1]].assign(**values)
        return pd.concat([frame[: at - 1], copy, frame[at - 1 :]], ignore_index=True)

    return damage
