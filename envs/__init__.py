"""The market and everything that happens in it: bars, features, the simulator, the trace."""
